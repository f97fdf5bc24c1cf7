//! What every stream must do, whatever it is; `corpus` has what real ones do.

mod corpus;
mod made;

pub(crate) use corpus::{STREAMS, stream};

use super::{Reader, Reason, Span, Step};
use crate::PAGE;
use proptest::prelude::*;

/// Feeds a stream in pieces of the lengths given (over and over), as a relay would, and says what came of it. What is
/// left at the end passes as it is.
pub(crate) fn read(reader: &mut Reader, stream: &[u8], pieces: &[usize]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for piece in pieces.iter().cycle() {
        while let Some(step) = reader.step(&stream[begin..end]) {
            assert!((1..=end - begin).contains(&step.bytes), "{step:?} of {} bytes", end - begin);
            if matches!(step.span, Span::Page(_)) {
                assert_eq!(step.bytes, PAGE);
            }
            begin += step.bytes;
            match steps.last_mut() {
                // How control bytes are cut depends on what was there.
                Some(last) if last.span == step.span && matches!(step.span, Span::Control | Span::Opaque) => {
                    last.bytes += step.bytes;
                }
                _ => steps.push(step),
            }
        }
        assert!(end - begin < Reader::MOST, "{} bytes and no step", end - begin);
        if end == stream.len() {
            break;
        }
        end = (end + piece).min(stream.len());
    }
    reader.give_up(Reason::Over);
    if begin < end {
        let step = reader.step(&stream[begin..end]);
        assert_eq!(step, Some(Step { span: Span::Opaque, bytes: end - begin }));
        steps.extend(step);
    }
    assert_eq!(steps.iter().map(|step| step.bytes).sum::<usize>(), stream.len());
    steps
}

proptest! {
    #[test]
    fn any_bytes_pass(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), start in 0..6_usize, piece in 1..5000_usize) {
        let starts: [&[u8]; 6] = [b"", b"QEVM\0\0\0\x03", &[8], &[0], &[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1], &[2]];
        bytes.splice(0..0, starts[start].iter().copied());
        read(&mut Reader::new(), &bytes, &[piece]);
    }
}
