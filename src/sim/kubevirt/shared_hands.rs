//! Hands that somebody else may reach into while they work, for example to break the next migration.

use super::hands::{Hands, Job, Stage};
use jiff::Timestamp;
use miyako_core::model::Uid;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

fn locked<H>(hands: &Arc<Mutex<H>>) -> MutexGuard<'_, H> {
    hands.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Hands> Hands for Arc<Mutex<H>> {
    fn prepare_target(&mut self, job: &Job, now: Timestamp) {
        locked(self).prepare_target(job, now);
    }

    fn start(&mut self, job: &Job, now: Timestamp) {
        locked(self).start(job, now);
    }

    fn switch_to_post_copy(&mut self, migration: &Uid, now: Timestamp) {
        locked(self).switch_to_post_copy(migration, now);
    }

    fn pause(&mut self, migration: &Uid, now: Timestamp) {
        locked(self).pause(migration, now);
    }

    fn abort(&mut self, migration: &Uid, reason: &str, now: Timestamp) {
        locked(self).abort(migration, reason, now);
    }

    fn stage(&mut self, migration: &Uid, now: Timestamp) -> Stage {
        locked(self).stage(migration, now)
    }

    fn forget(&mut self, migration: &Uid) {
        locked(self).forget(migration);
    }
}
