//! Packets of RMCP+ and the messages in them (IPMI 2.0 §13.6, §13.8). Pure.

use super::suite::Keys;

/// RMCP version 1.0, no acknowledgement, class IPMI.
const RMCP: [u8; 4] = [6, 0, 0xff, 7];
/// The authentication type that marks the RMCP+ format.
const RMCP_PLUS: u8 = 6;
/// The bits of the payload type that say encrypted and authenticated.
const PROTECTED: u8 = 0xc0;
/// The BMC's and a remote console's address on the bus.
const BMC: u8 = 0x20;
const CONSOLE: u8 = 0x81;

/// What a packet carries (table 13-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    Message = 0,
    OpenRequest = 0x10,
    OpenResponse = 0x11,
    Rakp1 = 0x12,
    Rakp2 = 0x13,
    Rakp3 = 0x14,
    Rakp4 = 0x15,
}

/// A packet outside a session.
pub(super) fn plain(payload: Payload, content: &[u8]) -> Vec<u8> {
    packet(payload as u8, 0, 0, content)
}

fn packet(kind: u8, session: u32, sequence: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = RMCP.to_vec();
    bytes.extend([RMCP_PLUS, kind]);
    bytes.extend(session.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    // No content of ours comes near 64 KiB.
    bytes.extend(u16::try_from(content.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// A message inside a session: encrypted, then sealed.
pub(super) fn sealed(keys: &Keys, session: u32, sequence: u32, message: &[u8], iv: [u8; 16]) -> Vec<u8> {
    let mut bytes = packet(Payload::Message as u8 | PROTECTED, session, sequence, &keys.encrypt(message, iv));
    // What is sealed, with pad length and next header, is a multiple of four.
    let mut padding = 0;
    while !(bytes.len() - RMCP.len() + 2).is_multiple_of(4) {
        bytes.push(0xff);
        padding += 1;
    }
    bytes.extend([padding, 7]);
    let code = keys.check(&bytes[RMCP.len()..]);
    bytes.extend(code);
    bytes
}

/// The content of a packet outside a session, if it is one of this kind.
pub(super) fn open_plain(bytes: &[u8], payload: Payload) -> Option<&[u8]> {
    let (kind, _, content) = split(bytes)?;
    (kind == payload as u8).then_some(content)
}

/// The message of a sealed packet of this session, if it is intact.
pub(super) fn open_sealed(keys: &Keys, session: u32, bytes: &[u8]) -> Option<Vec<u8>> {
    let (kind, found, content) = split(bytes)?;
    if kind != Payload::Message as u8 | PROTECTED || found != session {
        return None;
    }
    let (sealed, code) = bytes.split_at_checked(bytes.len().checked_sub(keys.suite.check_length())?)?;
    if !keys.is_intact(sealed.get(RMCP.len()..)?, code) {
        return None;
    }
    keys.decrypt(content)
}

/// Kind, session and content.
fn split(bytes: &[u8]) -> Option<(u8, u32, &[u8])> {
    let rest = bytes.strip_prefix(&RMCP)?;
    let (header, rest) = rest.split_at_checked(12)?;
    let &[RMCP_PLUS, kind, s0, s1, s2, s3, _, _, _, _, l0, l1] = header else { return None };
    let content = rest.get(..usize::from(u16::from_le_bytes([l0, l1])))?;
    Some((kind, u32::from_le_bytes([s0, s1, s2, s3]), content))
}

/// A request to the BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) net_fn: u8,
    pub(super) command: u8,
    pub(super) data: &'a [u8],
}

impl Request<'_> {
    /// The message; the number tells answers apart.
    pub(super) fn message(&self, number: u8) -> Vec<u8> {
        let mut bytes = vec![BMC, self.net_fn << 2];
        bytes.push(checksum(&bytes));
        let second = bytes.len();
        bytes.extend([CONSOLE, number << 2, self.command]);
        bytes.extend_from_slice(self.data);
        bytes.push(checksum(&bytes[second..]));
        bytes
    }

    /// The completion code and the data of the answer to the request with this number.
    pub(super) fn answer<'a>(&self, number: u8, message: &'a [u8]) -> Option<(u8, &'a [u8])> {
        let (head, rest) = message.split_at_checked(3)?;
        let (last, body) = rest.split_last()?;
        if checksum(&head[..2]) != head[2] || checksum(body) != *last {
            return None;
        }
        let (&[_, sequence, command, completion], data) = body.split_first_chunk()?;
        let ours = head[0] == CONSOLE && head[1] >> 2 == self.net_fn | 1;
        (ours && sequence >> 2 == number && command == self.command).then_some((completion, data))
    }
}

/// Two's complement of the sum.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::{super::suite::Suite, *};
    use proptest::prelude::*;

    #[test]
    fn a_message_has_its_checksums() {
        let request = Request { net_fn: 6, command: 0x3b, data: &[3] };
        assert_eq!(request.message(2), [0x20, 0x18, 0xc8, 0x81, 8, 0x3b, 3, 0x39]);
        let answer = [0x81, 0x1c, 0x63, 0x20, 8, 0x3b, 0, 3, 0x9a];
        assert_eq!(request.answer(2, &answer), Some((0, &[3][..])));
        assert_eq!(request.answer(3, &answer), None);
    }

    proptest! {
        #[test]
        fn sealed_packets_open_and_anything_else_is_refused(
            message in prop::collection::vec(any::<u8>(), 0..60),
            garbage in prop::collection::vec(any::<u8>(), 0..100),
            iv in any::<[u8; 16]>(),
            session in any::<u32>(),
            at in any::<usize>(),
        ) {
            for suite in Suite::ALL {
                let keys = Keys::new(suite, b"01234567890123456789");
                let mut bytes = sealed(&keys, session, 7, &message, iv);
                prop_assert_eq!((bytes.len() - 4 - suite.check_length()) % 4, 0);
                prop_assert_eq!(open_sealed(&keys, session, &bytes), Some(message.clone()));
                prop_assert_eq!(open_sealed(&keys, session.wrapping_add(1), &bytes), None);
                let length = bytes.len();
                bytes[at % length] ^= 0x20;
                prop_assert_eq!(open_sealed(&keys, session, &bytes), None);
                prop_assert_eq!(open_sealed(&keys, session, &bytes[..at % length]), None);
                let framed = [&RMCP[..], &garbage].concat();
                for garbage in [&garbage, &framed] {
                    let _ = (open_sealed(&keys, session, garbage), open_plain(garbage, Payload::Rakp2));
                    let _ = Request { net_fn: 0, command: 1, data: &[] }.answer(1, garbage);
                }
            }
        }
    }
}
