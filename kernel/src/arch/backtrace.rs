//! Walks the frame pointers of this core's stack.

use super::local::StackBounds;

/// Return addresses from the innermost function outwards, at most `into.len()`.
/// Stops where a frame pointer leaves the stack or does not grow, so that a
/// broken stack cannot fault.
pub fn collect(mut frame: u64, stack: StackBounds, into: &mut [u64]) -> usize {
    let mut found = 0;
    while found < into.len()
        && frame >= stack.bottom
        && frame.is_multiple_of(8)
        && frame.checked_add(16).is_some_and(|end| end <= stack.top)
    {
        // SAFETY: both words are inside this core's stack, which is mapped.
        let (next, address) = unsafe { (*(frame as *const u64), *((frame + 8) as *const u64)) };
        if address == 0 {
            break;
        }
        into[found] = address;
        found += 1;
        if next <= frame {
            break;
        }
        frame = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_frames_and_stops_at_the_stack_s_end() {
        let mut stack = [0u64; 8];
        let base = stack.as_ptr() as u64;
        stack[0] = base + 32;
        stack[1] = 0x1111;
        stack[4] = base + 48;
        stack[5] = 0x2222;
        // Points beyond the stack: its return address is the last one.
        stack[6] = base + 640;
        stack[7] = 0x3333;
        let bounds = StackBounds { bottom: base, top: base + 64 };
        let mut found = [0; 8];
        assert_eq!(collect(core::hint::black_box(&stack).as_ptr() as u64, bounds, &mut found), 3);
        assert_eq!(found[..3], [0x1111, 0x2222, 0x3333]);
    }

    #[test]
    fn a_loop_or_a_wild_pointer_ends_the_walk() {
        let mut stack = [0u64; 4];
        let base = stack.as_ptr() as u64;
        stack[0] = base;
        stack[1] = 0x1111;
        let bounds = StackBounds { bottom: base, top: base + 32 };
        let mut found = [0; 8];
        assert_eq!(collect(core::hint::black_box(&stack).as_ptr() as u64, bounds, &mut found), 1);
        assert_eq!(collect(base + 3, bounds, &mut found), 0);
        assert_eq!(collect(u64::MAX - 7, bounds, &mut found), 0);
    }
}
