//! The pages that were referred to and are not acknowledged.

use crate::PAGE;
use std::collections::VecDeque;

#[derive(Debug)]
struct Kept {
    /// Where the reference stands.
    position: u64,
    /// It was asked for and sent; nobody asks twice.
    answered: bool,
    page: Box<[u8; PAGE]>,
}

/// Pages by the positions of their references, oldest first. The memory of what is released is used again.
#[derive(Debug, Default)]
pub(super) struct Retained {
    kept: VecDeque<Kept>,
    free: Vec<Box<[u8; PAGE]>>,
}

impl Retained {
    /// Where the oldest reference stands.
    pub(super) fn first(&self) -> Option<u64> {
        self.kept.front().map(|kept| kept.position)
    }

    pub(super) fn keep(&mut self, position: u64, page: &[u8; PAGE]) {
        let page = match self.free.pop() {
            Some(mut free) => {
                *free = *page;
                free
            }
            None => Box::new(*page),
        };
        self.kept.push_back(Kept { position, answered: false, page });
    }

    /// The page whose reference stands there, the first time that it is asked for.
    pub(super) fn answer(&mut self, position: u64) -> Option<&[u8; PAGE]> {
        let at = self.kept.binary_search_by_key(&position, |kept| kept.position).ok()?;
        let kept = self.kept.get_mut(at).filter(|kept| !kept.answered)?;
        kept.answered = true;
        Some(&kept.page)
    }

    /// Lets go of everything that lies before `position`.
    pub(super) fn release(&mut self, position: u64) {
        while self.kept.front().is_some_and(|kept| kept.position + PAGE as u64 <= position) {
            self.free.extend(self.kept.pop_front().map(|kept| kept.page));
        }
    }

    pub(super) fn memory(&self) -> usize {
        (self.kept.len() + self.free.len()) * PAGE
    }
}
