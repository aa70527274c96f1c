//! A processor's time-stamp counter: the hardware's, and an offset.
//!
//! A guest that sets it, or `IA32_TSC_ADJUST`, changes the offset. The hardware's own `IA32_TSC_ADJUST`
//! is never written; as long as the guest's has the same value, it is read without an exit. That is so
//! with every system that leaves the counter alone: Linux, which then trusts it and checks no more,
//! looks at the register once a second on each processor.

/// What a guest's processor sees of its time-stamp counter (SDM Vol. 3B, 18.17.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tsc {
    /// In ticks, added to the hardware's counter.
    offset: u64,
    /// The guest's `IA32_TSC_ADJUST`.
    adjust: u64,
    /// The hardware's, where the processor has that register.
    hardware: Option<u64>,
}

impl Tsc {
    /// The counter after reset: the hardware's. `hardware` is its `IA32_TSC_ADJUST`.
    pub const fn new(hardware: Option<u64>) -> Self {
        Self { offset: 0, adjust: 0, hardware }
    }

    /// What the VMCS's TSC offset must be.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The guest's `IA32_TSC_ADJUST`, where the processor has that register.
    pub fn adjust(&self) -> Option<u64> {
        self.hardware.map(|_| self.adjust)
    }

    /// Whether the hardware's `IA32_TSC_ADJUST` reads as the guest's.
    pub fn reads_as_hardware(&self) -> bool {
        self.hardware == Some(self.adjust)
    }

    /// The guest sets the counter to `value`; the hardware's is `now`. `IA32_TSC_ADJUST` changes by as
    /// much as the counter.
    pub const fn set(&mut self, value: u64, now: u64) {
        let change = value.wrapping_sub(now.wrapping_add(self.offset));
        self.set_adjust(self.adjust.wrapping_add(change));
    }

    /// The guest sets `IA32_TSC_ADJUST`. The counter changes by as much.
    pub const fn set_adjust(&mut self, value: u64) {
        self.offset = self.offset.wrapping_add(value.wrapping_sub(self.adjust));
        self.adjust = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_and_its_adjustment_change_together() {
        let mut tsc = Tsc::new(Some(0));
        assert!(tsc.reads_as_hardware());
        tsc.set(1_000, 5_000);
        assert_eq!(5_000u64.wrapping_add(tsc.offset()), 1_000);
        assert_eq!(tsc.adjust(), Some(4_000u64.wrapping_neg()));
        assert!(!tsc.reads_as_hardware());
        tsc.set_adjust(7);
        assert_eq!((tsc.offset(), tsc.adjust()), (7, Some(7)));
        tsc.set_adjust(0);
        assert_eq!(tsc, Tsc::new(Some(0)));
    }

    #[test]
    fn what_the_firmware_has_left_is_not_the_guests() {
        let mut tsc = Tsc::new(Some(300));
        assert_eq!((tsc.adjust(), tsc.reads_as_hardware()), (Some(0), false));
        tsc.set_adjust(300);
        assert!(tsc.reads_as_hardware());
        assert_eq!(tsc.offset(), 300, "the guest's counter has moved all the same");
        assert_eq!(Tsc::new(None).adjust(), None);
        assert!(!Tsc::new(None).reads_as_hardware());
    }
}
