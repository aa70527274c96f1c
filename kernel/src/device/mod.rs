//! Device models: plain logic, host-tested, which know nothing of VMX.
