//! What a relay keeps of a VM: the layout of an image, in a file of memory or of a fast disk.
//!
//! An image is a bag of pages. Where in the guest a page was does not matter, as references are by content; so an image
//! has neither addresses nor an order, a part of one is worth as much as it has pages, and zero pages are not in it.
//!
//! ```text
//!          ┌────────┬─────────────────────────────┬─────────────────────────────┬─ …
//!  bytes   │ 4096   │ 254 × 4096          │ 4096  │ 254 × 4096          │ 4096  │
//!          │ header │ pages of group 0    │ table │ pages of group 1    │ table │
//!          └────────┴─────────────────────────────┴─────────────────────────────┴─ …
//! ```
//!
//! **Every byte is checked before it is believed**, so a full disk, a torn write or a bit that flipped costs what it
//! hit:
//!
//! - The [`Header`] carries a checksum of itself. Without a header there is no image.
//! - A table holds the tags of its group's pages, and a checksum under the VM's key over them, the image's generation
//!   and the group's number. So a table that was left from an earlier generation, or that a disk returns for another
//!   place, is none. Without its table a group is empty.
//! - A page is what its tag says, or it is not there: whoever hands it on hashes it anyway. It needs no other checksum.
//!
//! A writer fills a group before it writes its table, and the header, with a new generation, before everything else:
//! what it had no time for is then as if it had never been.
//!
//! The header holds the VM's key (see [`hash`](crate::hash)), so the file is for root alone.

#[cfg(test)]
mod tests;

use crate::PAGE;
use crate::hash::{Tag, VmKey};
use crate::index::Slot;

/// Pages in a group: as many tags as a table holds beside its checksum.
pub const GROUP: u32 = 254;

/// 1 TiB of pages; a larger image is no image.
pub const MOST_SLOTS: u32 = 1 << 28;

const MAGIC: [u8; 4] = *b"MYKI";
const VERSION: u32 = 1;
const CHECKSUM: usize = 32;
/// The longest UID of a Kubernetes object that is taken.
const LONGEST_VM: usize = 64;
/// Magic, version, generation, time, slots, length of the name; the key; the name.
const FIXED: usize = 4 + 4 + 8 + 8 + 4 + 4;

/// Why something of an image is not believed. Each costs what it hit, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadImage {
    /// It does not begin as an image does.
    #[error("no image of a VM")]
    NotAnImage,
    /// Another version of Miyako wrote it.
    #[error("an image of layout {0}, where this version knows {VERSION}")]
    Version(u32),
    /// Its bytes are not those that were written.
    #[error("the checksum does not fit")]
    Checksum,
    /// Its fields can't be what a relay wrote.
    #[error("a header that makes no sense")]
    Nonsense,
    /// It is another VM's, under whatever name the file has.
    #[error("the image of another VM")]
    OtherVm,
}

/// The first page of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The VM's UID.
    pub vm: String,
    /// Under which its pages are hashed.
    pub key: VmKey,
    /// Counts up each time that the image is begun anew.
    pub generation: u64,
    /// When it was begun, in seconds since 1970, by the node's own clock: only good to tell how old it is on that node.
    pub begun_at: u64,
    /// How many slots for pages there are, whether or not they are filled.
    pub slots: u32,
}

impl Header {
    /// The page to be written, or `None` where a field can't be written.
    #[must_use]
    pub fn encode(&self) -> Option<[u8; PAGE]> {
        if self.vm.len() > LONGEST_VM || self.vm.is_empty() || self.slots > MOST_SLOTS {
            return None;
        }
        let mut bytes = Vec::with_capacity(PAGE);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.begun_at.to_be_bytes());
        bytes.extend_from_slice(&self.slots.to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(self.vm.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(self.key.expose());
        bytes.extend_from_slice(self.vm.as_bytes());
        bytes.resize(PAGE - CHECKSUM, 0);
        let checksum = header_checksum(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes.try_into().ok()
    }

    /// What the page says.
    ///
    /// # Errors
    /// When it is none, or not what was written.
    pub fn decode(page: &[u8; PAGE]) -> Result<Self, BadImage> {
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| page[at + byte]));
        let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| page[at + byte]));
        if page[..4] != MAGIC {
            return Err(BadImage::NotAnImage);
        }
        if word(4) != VERSION {
            return Err(BadImage::Version(word(4)));
        }
        let (said, checksum) = page.split_at(PAGE - CHECKSUM);
        if header_checksum(said).as_slice() != checksum {
            return Err(BadImage::Checksum);
        }
        let (slots, length) = (word(24), word(28) as usize);
        if slots > MOST_SLOTS || length == 0 || length > LONGEST_VM {
            return Err(BadImage::Nonsense);
        }
        let key = VmKey::new(std::array::from_fn(|at| page[FIXED + at]));
        let vm = page[FIXED + 32..FIXED + 32 + length].to_vec();
        let vm = String::from_utf8(vm).map_err(|_| BadImage::Nonsense)?;
        Ok(Self { vm, key, generation: long(8), begun_at: long(16), slots })
    }

    /// The header, if it is that of this VM: a file may have been put under another's name.
    ///
    /// # Errors
    /// As [`Header::decode`], or when it is another VM's.
    pub fn of(vm: &str, page: &[u8; PAGE]) -> Result<Self, BadImage> {
        let header = Self::decode(page)?;
        if header.vm == vm { Ok(header) } else { Err(BadImage::OtherVm) }
    }

    /// How many groups the slots need.
    #[must_use]
    pub fn groups(&self) -> u32 {
        self.slots.div_ceil(GROUP)
    }

    /// How long the whole file is, in bytes.
    #[must_use]
    pub fn file_length(&self) -> u64 {
        PAGE as u64 + u64::from(self.groups()) * (u64::from(GROUP) + 1) * PAGE as u64
    }
}

fn header_checksum(said: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("miyako relay: the header of an image, version 1");
    hasher.update(said);
    hasher.finalize()
}

/// Where in the file the page of a slot is.
#[must_use]
pub fn page_at(Slot(slot): Slot) -> u64 {
    let group = u64::from(slot / GROUP);
    PAGE as u64 * (1 + group * (u64::from(GROUP) + 1) + u64::from(slot % GROUP))
}

/// Where in the file the table of a group is.
#[must_use]
pub fn table_at(group: u32) -> u64 {
    PAGE as u64 * (1 + u64::from(group) * (u64::from(GROUP) + 1) + u64::from(GROUP))
}

/// Writes and reads the tables of one generation of an image.
#[derive(Clone)]
pub struct Tables {
    key: [u8; 32],
    generation: u64,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Tables {
    /// Those of the image of this header.
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let key = blake3::derive_key("miyako relay: the tables of an image, version 1", header.key.expose());
        Self { key, generation: header.generation }
    }

    /// The table of a group whose slots hold these pages, none where nothing is. What is more than a group's is left
    /// out.
    #[must_use]
    pub fn encode(&self, group: u32, tags: &[Option<Tag>]) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        for (entry, tag) in page.as_chunks_mut().0.iter_mut().take(GROUP as usize).zip(tags) {
            *entry = tag.map_or([0; 16], |Tag(tag)| tag);
        }
        let (said, checksum) = page.split_at_mut(PAGE - CHECKSUM);
        checksum.copy_from_slice(self.checksum(group, said).as_slice());
        page
    }

    /// The pages of a group, by their slots.
    ///
    /// # Errors
    /// When it is not the table of that group, of this generation, as it was written, or no image has so many groups.
    pub fn decode(&self, group: u32, page: &[u8; PAGE]) -> Result<impl Iterator<Item = (Slot, Tag)>, BadImage> {
        let (said, checksum) = page.split_at(PAGE - CHECKSUM);
        if self.checksum(group, said).as_slice() != checksum {
            return Err(BadImage::Checksum);
        }
        let first = group.checked_mul(GROUP).filter(|first| *first < MOST_SLOTS).ok_or(BadImage::Nonsense)?;
        let filled = said.as_chunks().0.iter().zip(first..).filter(|(tag, _)| **tag != [0; 16]);
        Ok(filled.map(|(tag, slot)| (Slot(slot), Tag(*tag))))
    }

    fn checksum(&self, group: u32, said: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.generation.to_be_bytes()).update(&group.to_be_bytes()).update(said);
        hasher.finalize()
    }
}
