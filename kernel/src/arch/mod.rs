//! The processor: instructions, descriptor tables, interrupt controller, context switch.
