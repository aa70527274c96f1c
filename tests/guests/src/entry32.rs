//! For guests that are entered in 32-bit protected mode without paging: notes the state that the
//! loader left, and goes on in 64-bit mode.

use crate::{console, interrupts};

/// Bytes of the stack.
pub const STACK_SIZE: usize = crate::start::STACK_SIZE;

/// The processor as the loader left it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// General registers.
    pub eax: u32,
    /// Points at what the loader has to say, in PVH and Multiboot.
    pub ebx: u32,
    /// Flags.
    pub eflags: u32,
    /// CR0.
    pub cr0: u32,
    /// CR4.
    pub cr4: u32,
    /// What CS, DS, ES, FS, GS and SS hold.
    pub selectors: [u32; 6],
    /// The last 4 bytes below 4 GiB, read through DS, ES, FS, GS and SS: no RAM is there, but
    /// the segments reach that far.
    pub last: [u32; 5],
}

impl State {
    /// A place to note it.
    pub const fn new() -> Self {
        Self { eax: 0, ebx: 0, eflags: 0, cr0: 0, cr4: 0, selectors: [0; 6], last: [0; 5] }
    }

    /// Whether all is as both PVH and Multiboot promise, apart from EAX and EBX.
    pub fn is_flat_protected_mode(&self) -> bool {
        /// EFLAGS: bit 1 is always set. VM, IF and TF must be 0, the others are.
        const FLAGS: u32 = 1 << 1;
        const PE: u32 = 1 << 0;
        /// CR0.ET, which is always 1.
        const ET: u32 = 1 << 4;
        let [code, data @ ..] = self.selectors;
        self.eflags == FLAGS
            && self.cr0 == PE | ET
            && self.cr4 == 0
            && self.last == [u32::MAX; 5]
            && code & 0b111 == 0
            && data.iter().all(|selector| selector & 0b111 == 0)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// Six frames: PML4, PDPT, four page directories.
#[repr(C, align(4096))]
pub struct Tables([u8; 6 * 4096]);

impl Tables {
    /// Empty ones.
    #[expect(clippy::new_without_default, reason = "they are not made by value but in a static")]
    pub const fn new() -> Self {
        Self([0; 6 * 4096])
    }
}

/// Null, unused, 64-bit code, data: with the selectors that the runtime expects.
pub static GDT: [u64; 4] = [0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF];

/// Makes ready what every guest uses.
///
/// # Safety
/// To be called once, first of all.
pub unsafe fn prepare() {
    console::prepare();
    // SAFETY: the caller's contract.
    unsafe { interrupts::load() };
}

/// Makes `$main`, a `fn(&State) -> !`, what the guest does after its 32-bit entry at `$name`.
#[macro_export]
macro_rules! entry_32 {
    ($name:ident, $main:path) => {
        static mut STATE: $crate::entry32::State = $crate::entry32::State::new();
        static mut STACK: $crate::start::Stack = $crate::start::Stack::new();
        static mut TABLES: $crate::entry32::Tables = $crate::entry32::Tables::new();

        /// The first instruction.
        ///
        /// # Safety
        /// For the loader alone, in 32-bit protected mode.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() -> ! {
            extern "C" fn start() -> ! {
                // SAFETY: nothing was called before, and nobody else writes what was noted.
                let state = unsafe {
                    $crate::entry32::prepare();
                    &*(&raw const STATE)
                };
                let main: fn(&$crate::entry32::State) -> ! = $main;
                main(state)
            }

            ::core::arch::naked_asm!(
                ".code32",
                "mov [{state}], eax",
                "mov [{state} + 4], ebx",
                // The loader's stack need not exist.
                "lea esp, [{stack} + {size}]",
                "pushfd",
                "pop dword ptr [{state} + 8]",
                "mov eax, cr0",
                "mov [{state} + 12], eax",
                "mov eax, cr4",
                "mov [{state} + 16], eax",
                "mov eax, cs",
                "mov [{state} + 20], eax",
                "mov eax, ds",
                "mov [{state} + 24], eax",
                "mov eax, es",
                "mov [{state} + 28], eax",
                "mov eax, fs",
                "mov [{state} + 32], eax",
                "mov eax, gs",
                "mov [{state} + 36], eax",
                "mov eax, ss",
                "mov [{state} + 40], eax",
                "mov edi, 0xFFFFFFFC",
                "mov eax, ds:[edi]",
                "mov [{state} + 44], eax",
                "mov eax, es:[edi]",
                "mov [{state} + 48], eax",
                "mov eax, fs:[edi]",
                "mov [{state} + 52], eax",
                "mov eax, gs:[edi]",
                "mov [{state} + 56], eax",
                "mov eax, ss:[edi]",
                "mov [{state} + 60], eax",
                // The first 4 GiB one to one, in pages of 2 MiB (SDM Vol. 3A, 4.5).
                "lea edi, [{tables}]",
                "lea eax, [edi + 0x1003]",
                "mov [edi], eax",
                "add eax, 0x1000",
                "mov [edi + 0x1000], eax",
                "add eax, 0x1000",
                "mov [edi + 0x1008], eax",
                "add eax, 0x1000",
                "mov [edi + 0x1010], eax",
                "add eax, 0x1000",
                "mov [edi + 0x1018], eax",
                "xor ecx, ecx",
                "mov eax, 0x83",
                "2:",
                "mov [edi + 8 * ecx + 0x2000], eax",
                "add eax, 0x200000",
                "inc ecx",
                "cmp ecx, 2048",
                "jb 2b",
                "mov cr3, edi",
                // CR4.PAE, EFER.LME, CR0.PG.
                "mov eax, 0x20",
                "mov cr4, eax",
                "mov ecx, 0xC0000080",
                "rdmsr",
                "or eax, 0x100",
                "wrmsr",
                "mov eax, cr0",
                "or eax, 0x80000000",
                "mov cr0, eax",
                "sub esp, 8",
                "lea eax, [{gdt}]",
                "mov [esp + 2], eax",
                "mov word ptr [esp], 31",
                "lgdt [esp]",
                "mov eax, 0x18",
                "mov ds, eax",
                "mov es, eax",
                "mov ss, eax",
                "push 0x10",
                "lea eax, [3f]",
                "push eax",
                "retf",
                ".code64",
                "3:",
                "lea rsp, [rip + {stack} + {size}]",
                "xor ebp, ebp",
                "call {start}",
                "ud2",
                state = sym STATE,
                stack = sym STACK,
                size = const $crate::entry32::STACK_SIZE,
                tables = sym TABLES,
                gdt = sym $crate::entry32::GDT,
                start = sym start,
            )
        }
    };
}

/// Counts what a guest found to be as it was promised, and prints what is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    /// Prints and counts whether something holds.
    pub fn holds(&mut self, what: &str, holds: bool) {
        crate::println!("{what} ... {}", if holds { "ok" } else { "FAILED" });
        if holds { self.passed += 1 } else { self.failed += 1 }
    }

    /// Prints the counts.
    pub fn finish(self, name: &str) {
        crate::println!("{name}: {} passed, {} failed", self.passed, self.failed);
    }
}

/// Reads a number from where the loader says that one is.
///
/// # Safety
/// The address comes from the loader, and nobody writes there.
pub unsafe fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the caller's contract.
    unsafe { core::ptr::read_unaligned(address as *const T) }
}

/// The text that ends with a NUL at an address, at most 100 bytes of it; empty if it is no text.
///
/// # Safety
/// As [`read`].
pub unsafe fn text(address: u64) -> &'static str {
    const MOST: usize = 100;
    // SAFETY: the caller's contract; at most 100 bytes lie below 4 GiB in any case.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, MOST) };
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(0);
    core::str::from_utf8(&bytes[..len]).unwrap_or("")
}
