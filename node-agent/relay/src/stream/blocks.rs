//! The guest's RAM blocks, by the names that the stream gives them.

use super::{PAGE, Reason};

/// A VM has a few dozen; a stream that names more is none that we know, and would fill our memory.
const MOST: usize = 1024;

/// Far more than any guest has: 4 PiB.
const FARTHEST: u64 = 1 << 52;

/// A RAM block of one connection, by the order in which the connection first named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub(super) u16);

/// A page of the guest: a RAM block and the offset in it, a multiple of [`PAGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which block.
    pub block: BlockId,
    /// Where in it, in bytes.
    pub offset: u64,
}

#[derive(Debug)]
struct Block {
    name: Box<[u8]>,
    /// Only the main channel says how long a block is.
    length: Option<u64>,
}

/// Names and lengths of the blocks that were seen.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    seen: Vec<Block>,
    /// The one that was named last, which most pages belong to.
    last: usize,
}

impl Blocks {
    pub(super) fn name(&self, id: BlockId) -> Option<&[u8]> {
        self.seen.get(usize::from(id.0)).map(|block| &*block.name)
    }

    /// The sum of the lengths.
    pub(super) fn bytes(&self) -> u64 {
        self.seen.iter().filter_map(|block| block.length).fold(0, u64::saturating_add)
    }

    /// The block of this name, made known if it is new.
    pub(super) fn named(&mut self, name: &[u8]) -> Result<BlockId, Reason> {
        let is = |block: &Block| *block.name == *name;
        if !self.seen.get(self.last).is_some_and(is) {
            self.last = match self.seen.iter().position(is) {
                Some(at) => at,
                None if name.is_empty() || self.seen.len() >= MOST => return Err(Reason::Blocks),
                None => {
                    self.seen.push(Block { name: name.into(), length: None });
                    self.seen.len() - 1
                }
            };
        }
        u16::try_from(self.last).map(BlockId).map_err(|_| Reason::Blocks)
    }

    /// Notes how long a block is; a list that comes again (in a recovered migration) says the same.
    pub(super) fn measure(&mut self, name: &[u8], length: u64) -> Result<(), Reason> {
        if length == 0 || !length.is_multiple_of(PAGE as u64) || length > FARTHEST {
            return Err(Reason::Blocks);
        }
        let id = self.named(name)?;
        self.seen[usize::from(id.0)].length = Some(length);
        Ok(())
    }

    /// The place, if the block can have a page there.
    pub(super) fn place(&self, block: BlockId, offset: u64) -> Result<Place, Reason> {
        let length = self.seen.get(usize::from(block.0)).and_then(|block| block.length).unwrap_or(FARTHEST);
        if !offset.is_multiple_of(PAGE as u64) || offset >= length {
            return Err(Reason::Place);
        }
        Ok(Place { block, offset })
    }
}
