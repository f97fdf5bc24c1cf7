//! A guest's memory as its QEMU has it mapped.

use super::DirtyRateError;
use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// Pages as `/proc/<pid>/pagemap` counts them, whatever backs them.
pub(super) const PAGE: u64 = 4096;

/// A guest's memory is never smaller, and what else a QEMU maps writable (stacks, heaps, video memory) seldom larger.
const SMALLEST: u64 = 64 << 20;

/// `/proc/<pid>/pagemap`: the page is in memory (kernel documentation, `admin-guide/mm/pagemap.rst`).
const PRESENT: u64 = 1 << 63;

/// The parts of `/proc/<pid>/maps` that look like a guest's memory: long, writable, and no code (the translator of a
/// QEMU without KVM keeps up to a gibibyte of it).
pub(super) fn memory_regions(maps: &str) -> Vec<Range<u64>> {
    maps.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
            let permissions = fields.next()?;
            let name = fields.nth(3).unwrap_or_default();
            let fits = permissions.starts_with("rw-") && !name.starts_with("[heap") && !name.starts_with("[stack");
            (fits && range.end.checked_sub(range.start)? >= SMALLEST).then_some(range)
        })
        .collect()
}

/// Open files of a QEMU.
pub(super) struct GuestMemory {
    memory: File,
    memory_path: PathBuf,
    present: File,
    present_path: PathBuf,
}

impl GuestMemory {
    pub(super) fn open(directory: &Path) -> Result<Self, DirtyRateError> {
        let open = |name: &str| {
            let path = directory.join(name);
            match File::open(&path) {
                Ok(file) => Ok((file, path)),
                Err(source) => Err(DirtyRateError::File { path, source }),
            }
        };
        let ((memory, memory_path), (present, present_path)) = (open("mem")?, open("pagemap")?);
        Ok(Self { memory, memory_path, present, present_path })
    }

    /// A hash of each page's bytes; none of those that are not in memory. The bytes themselves are not kept.
    pub(super) fn hashes(&self, pages: &[u64]) -> Result<Vec<Option<u64>>, DirtyRateError> {
        let mut bytes = [0_u8; 4096];
        let mut hash = |&address: &u64| {
            let mut entry = [0_u8; 8];
            self.present
                .read_exact_at(&mut entry, address / PAGE * 8)
                .map_err(|source| DirtyRateError::File { path: self.present_path.clone(), source })?;
            if u64::from_ne_bytes(entry) & PRESENT == 0 {
                return Ok(None);
            }
            self.memory
                .read_exact_at(&mut bytes, address)
                .map_err(|source| DirtyRateError::File { path: self.memory_path.clone(), source })?;
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            Ok(Some(hasher.finish()))
        };
        pages.iter().map(&mut hash).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_long_writable_parts_without_code_are_a_guests() {
        let maps = "55d0c0000000-55d0c8000000 rw-p 00000000 00:00 0                          [heap]\n\
            7f0000000000-7f0040000000 rw-p 00000000 00:00 0 \n\
            7f0050000000-7f0058000000 rw-s 00000000 00:01 1034 /memfd:pc.ram (deleted)\n\
            7f0060000000-7f00a0000000 rwxp 00000000 00:00 0 \n\
            7f00b0000000-7f00b0100000 rw-p 00000000 00:00 0 \n\
            7f00c0000000-7f00d0000000 r--p 00000000 fe:00 99 /usr/bin/qemu-kvm\n";
        assert_eq!(memory_regions(maps), [0x7f00_0000_0000..0x7f00_4000_0000, 0x7f00_5000_0000..0x7f00_5800_0000]);
    }

    proptest! {
        #[test]
        fn no_maps_make_it_panic(maps in "([0-9a-f]{0,20}-?[0-9a-f]{0,20} [rwxps-]{0,5} .{0,20}\n){0,6}") {
            for region in memory_regions(&maps) {
                prop_assert!(region.end - region.start >= SMALLEST);
            }
        }
    }
}
