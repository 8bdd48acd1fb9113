//! The working pages of a backup, and the fences of their writers.

use serde::{Deserialize, Serialize};

/// Pages of one kind, written one after another by successive workers. Each page carries the fence of the worker that
/// wrote it, so a worker that lost its lease can't overwrite its successor's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageSet {
    /// The number of pages.
    pub count: u32,
    /// For each writer, the number of its first page and its fence, in order.
    writers: Vec<(u32, u64)>,
}

impl PageSet {
    /// The fence that the page with this number carries.
    pub fn fence(&self, number: u32) -> u64 {
        self.writers.iter().rfind(|(first, _)| *first <= number).map_or(0, |(_, fence)| *fence)
    }

    /// Adds a page that is written by the worker with this fence.
    pub fn push(&mut self, fence: u64) {
        if self.writers.last().is_none_or(|(_, last)| *last != fence) {
            self.writers.push((self.count, fence));
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_carries_the_fence_of_its_writer() {
        let mut pages = PageSet::default();
        for fence in [3, 3, 5, 9, 9] {
            pages.push(fence);
        }
        assert_eq!(pages.count, 5);
        assert_eq!((0..5).map(|number| pages.fence(number)).collect::<Vec<_>>(), [3, 3, 5, 9, 9]);
    }
}
