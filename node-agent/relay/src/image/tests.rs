use super::*;
use crate::hash::PageHash;
use crate::index::Index;
use proptest::prelude::*;

const SLOTS: u32 = 300;

fn header() -> Header {
    let vm = "3f1c9a52-0d0e-4f5f-9a77-5f1c2d3e4b5a".to_owned();
    Header { vm, key: VmKey::new([6; 32]), generation: 4, begun_at: 1_900_000_000, slots: SLOTS }
}

fn content(slot: u32) -> [u8; PAGE] {
    std::array::from_fn(|at| slot.wrapping_mul(31).to_le_bytes()[at % 4] ^ at.to_le_bytes()[0])
}

/// A file as a relay writes it: two groups, of which every fifth slot is empty.
fn write(header: &Header) -> Vec<u8> {
    let (hash, tables) = (PageHash::new(&header.key), Tables::new(header));
    let mut file = vec![0; usize::try_from(header.file_length()).unwrap()];
    let mut put = |at: u64, page: &[u8; PAGE]| {
        let at = usize::try_from(at).unwrap();
        file[at..at + PAGE].copy_from_slice(page);
    };
    put(0, &header.encode().unwrap());
    for group in 0..header.groups() {
        let filled = |slot: &u32| !slot.is_multiple_of(5) && *slot < header.slots;
        let slots: Vec<u32> = (group * GROUP..(group + 1) * GROUP).collect();
        slots.iter().filter(|slot| filled(slot)).for_each(|slot| put(page_at(Slot(*slot)), &content(*slot)));
        let tags: Vec<_> = slots.iter().map(|slot| filled(slot).then(|| hash.tag(&content(*slot)))).collect();
        put(table_at(group), &tables.encode(group, &tags));
    }
    file
}

/// What a relay that starts finds in a file: the pages that it could hand on.
fn open(file: &[u8]) -> Result<Vec<u32>, BadImage> {
    let page = |at: u64| file.get(usize::try_from(at).unwrap()..).and_then(<[u8]>::first_chunk::<PAGE>);
    let header = Header::of(&header().vm, page(0).ok_or(BadImage::NotAnImage)?)?;
    let (hash, tables) = (PageHash::new(&header.key), Tables::new(&header));
    let (mut index, mut found) = (Index::with_capacity(header.slots as usize), Vec::new());
    for group in 0..header.groups().min(1000) {
        let Some(Ok(table)) = page(table_at(group)).map(|page| tables.decode(group, page)) else { continue };
        for (slot, tag) in table {
            index.insert(tag.fingerprint(), slot);
            // As the decoder does before it hands a page on.
            if page(page_at(slot)).is_some_and(|page| hash.tag(page) == tag) {
                found.push(slot.0);
            }
        }
    }
    assert!(index.len() >= found.len());
    Ok(found)
}

fn all() -> Vec<u32> {
    (0..SLOTS).filter(|slot| !slot.is_multiple_of(5)).collect()
}

#[test]
fn what_was_written_is_found() {
    assert_eq!(open(&write(&header())), Ok(all()));
    assert_eq!(Header::decode(&header().encode().unwrap()), Ok(header()));
    for (at, slot) in [(PAGE, 0), (254 * PAGE, 253), (256 * PAGE, 254)] {
        assert_eq!(page_at(Slot(slot)), at as u64);
    }
    assert_eq!((table_at(0), table_at(1)), (255 * PAGE as u64, 510 * PAGE as u64));
    assert_eq!(header().file_length(), 511 * PAGE as u64);
}

#[test]
fn every_flipped_bit_of_header_and_table_is_seen() {
    let header_page = header().encode().unwrap();
    let tables = Tables::new(&header());
    let table = tables.encode(3, &[Some(Tag([1; 16])); 200]);
    for bit in 0..PAGE * 8 {
        let flip = |page: &[u8; PAGE]| {
            let mut page = *page;
            page[bit / 8] ^= 1 << (bit % 8);
            page
        };
        assert!(Header::decode(&flip(&header_page)).is_err(), "bit {bit} of the header");
        assert!(tables.decode(3, &flip(&table)).is_err(), "bit {bit} of the table");
    }
    assert_eq!(tables.decode(3, &table).unwrap().count(), 200);
}

#[test]
fn a_flipped_bit_costs_what_it_hit() {
    let file = write(&header());
    let table = usize::try_from(table_at(0)).unwrap();
    for at in [table, table + 4000, table + 4095].into_iter().chain((PAGE..table).step_by(4999)) {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let hit = u32::try_from(at / PAGE - 1).unwrap();
        let rest = |slot: &u32| if at >= table { *slot >= GROUP } else { *slot != hit };
        assert_eq!(open(&damaged), Ok(all().into_iter().filter(rest).collect()), "byte {at}");
    }
}

/// The disk was full, or the node died: what is there is worth what it has.
#[test]
fn a_file_that_ends_early_is_worth_what_it_has() {
    let file = write(&header());
    let until = |length: usize| open(&file[..length]);
    assert_eq!(until(0), Err(BadImage::NotAnImage));
    assert_eq!(until(PAGE - 1), Err(BadImage::NotAnImage));
    // The first group's table comes behind its pages.
    assert_eq!(until(255 * PAGE), Ok(vec![]));
    assert_eq!(until(256 * PAGE).unwrap().len(), 203);
    assert_eq!(until(file.len() - 1).unwrap().len(), 203);
}

/// A new generation has begun in an old file, and got as far as its first group.
#[test]
fn what_an_earlier_generation_left_is_none() {
    let newer = write(&Header { generation: 5, ..header() });
    let mut file = write(&header());
    file[..256 * PAGE].copy_from_slice(&newer[..256 * PAGE]);
    assert_eq!(open(&file), Ok(all().into_iter().filter(|slot| *slot < GROUP).collect()));
    // Only its header.
    let mut file = write(&header());
    file[..PAGE].copy_from_slice(&newer[..PAGE]);
    assert_eq!(open(&file), Ok(vec![]));
}

/// A disk returns another place's bytes, an administrator another VM's file.
#[test]
fn what_lies_in_the_wrong_place_is_none() {
    let mut file = write(&Header { slots: 2 * GROUP, ..header() });
    let (first, second) = (usize::try_from(table_at(0)).unwrap(), usize::try_from(table_at(1)).unwrap());
    let table = file[first..first + PAGE].to_vec();
    file[second..second + PAGE].copy_from_slice(&table);
    assert!(open(&file).unwrap().iter().all(|slot| *slot < GROUP));
    assert_eq!(open(&write(&Header { vm: "another".into(), ..header() })), Err(BadImage::OtherVm));
    let other_key = write(&Header { key: VmKey::new([7; 32]), ..header() });
    let mut file = write(&header());
    file[..PAGE].copy_from_slice(&other_key[..PAGE]);
    assert_eq!(open(&file), Ok(vec![]));
}

#[test]
fn other_files_and_later_layouts_are_told_apart() {
    assert_eq!(Header::decode(&[0; PAGE]), Err(BadImage::NotAnImage));
    let mut later = header().encode().unwrap();
    later[7] = 2;
    assert_eq!(Header::decode(&later), Err(BadImage::Version(2)));
    for bad in [Header { vm: String::new(), ..header() }, Header { vm: "x".repeat(65), ..header() }] {
        assert_eq!(bad.encode(), None);
    }
    assert_eq!(Header { slots: MOST_SLOTS + 1, ..header() }.encode(), None);
}

/// A group that is behind the end of every image has no slots. The fuzzer found that its slots could not be counted.
#[test]
fn groups_behind_the_end_are_none() {
    let tables = Tables::new(&header());
    for group in [MOST_SLOTS / GROUP + 1, u32::MAX / GROUP, u32::MAX] {
        let table = tables.encode(group, &[Some(Tag([1; 16])); 254]);
        assert_eq!(tables.decode(group, &table).map(drop), Err(BadImage::Nonsense));
    }
    let last = (MOST_SLOTS - 1) / GROUP;
    let table = tables.encode(last, &[Some(Tag([1; 16])); 254]);
    assert_eq!(tables.decode(last, &table).unwrap().count(), 254);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens to a file, no page is found that was not written there.
    #[test]
    fn no_damage_makes_a_page(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..9000_usize), 1..6),
        noise in any::<u8>(),
    ) {
        let mut file = write(&header());
        for (from, to, length) in damage {
            let (from, to) = (from.index(file.len()), to.index(file.len()));
            let length = length.min(file.len() - from.max(to));
            if noise % 2 == 0 {
                file.copy_within(from..from + length, to);
            } else {
                file[to..to + length].fill(noise);
            }
        }
        let found = open(&file).unwrap_or_default();
        prop_assert!(found.iter().all(|slot| all().contains(slot)));
        let page = |slot: &u32| file[usize::try_from(page_at(Slot(*slot))).unwrap()..].first_chunk::<PAGE>();
        prop_assert!(found.iter().all(|slot| page(slot) == Some(&content(*slot))));
    }
}
