//! How many machines run at a time.

use std::sync::{Condvar, Mutex, PoisonError};

/// Each machine keeps a core of the host busy: more at a time would only be slower, each of them.
const MACHINES: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// Leave to run a machine, which ends when this is dropped.
#[derive(Debug)]
pub struct Permit(());

impl Permit {
    /// Waits until fewer machines run.
    pub fn wait() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = ENDED
            .wait_while(running, |running| *running >= MACHINES)
            .unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn no_more_run_than_may() {
        static NOW: AtomicUsize = AtomicUsize::new(0);
        let machine = || {
            let _permit = Permit::wait();
            assert!(NOW.fetch_add(1, Ordering::SeqCst) < MACHINES);
            thread::yield_now();
            NOW.fetch_sub(1, Ordering::SeqCst);
        };
        let machines: Vec<_> = (0..20).map(|_| thread::spawn(machine)).collect();
        assert!(machines.into_iter().all(|machine| machine.join().is_ok()));
    }
}
