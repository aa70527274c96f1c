#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bulkhead_harness::targets::multiboot(data);
});
