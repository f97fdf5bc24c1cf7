use super::*;
use proptest::prelude::*;

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![
        (0..=1000u64).prop_map(|load| Order::Load(Permille::new(load).unwrap())),
        intensities().prop_map(Order::Intensity),
        speeds().prop_map(Order::Speed),
        Just(Order::Check),
        any::<u32>().prop_map(|page| Order::Spoil { page, how: Spoil::Damage }),
        any::<u32>().prop_map(|page| Order::Spoil { page, how: Spoil::Outdate }),
        Just(Order::PowerOff),
    ]
}

fn intensities() -> impl Strategy<Value = Intensity> {
    (0..=Intensity::MOST, 0..=Intensity::MOST).prop_map(|(writes, reads)| Intensity { writes, reads })
}

fn speeds() -> impl Strategy<Value = Speed> {
    (1..u64::MAX, 1..u64::MAX, 1..u64::MAX).prop_map(|(loops, reads, writes)| Speed { loops, reads, writes })
}

fn checks() -> impl Strategy<Value = Check> {
    (any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<Option<u32>>()).prop_map(
        |(command, pages, outdated, damaged, first_bad)| Check { command, pages, outdated, damaged, first_bad },
    )
}

fn messages() -> impl Strategy<Value = Message> {
    let report = any::<[u64; 6]>().prop_map(|[sequence, uptime_ms, operations, target_millis, writes, applied]| {
        Message::Report(Report { sequence, uptime_ms, operations, target_millis, writes, applied })
    });
    let settings = (0..=1000u64, intensities(), speeds(), prop::option::of(checks()));
    let state = (any::<u32>(), any::<u64>(), any::<u32>(), settings).prop_map(
        |(pages, seed, workers, (load, intensity, speed, check))| {
            let load = Permille::new(load).unwrap();
            Message::State(State { pages, seed, workers, load, intensity, speed, check })
        },
    );
    prop_oneof![report, state]
}

proptest! {
    #[test]
    fn a_command_survives_its_line(number: u64, order in orders()) {
        let command = Command { number, order };
        prop_assert!(command.line().len() <= LONGEST_LINE);
        prop_assert_eq!(Command::parse(command.line().as_bytes()), Ok(command));
    }

    #[test]
    fn a_message_survives_its_line(message in messages()) {
        prop_assert!(message.line().len() <= LONGEST_LINE);
        prop_assert_eq!(Message::parse(message.line().as_bytes()), Ok(message));
    }

    #[test]
    fn the_pieces_of_a_torn_line_say_nothing(message in messages(), at: prop::sample::Index) {
        let line = message.line();
        let at = 1 + at.index(line.len() - 2);
        prop_assert_eq!(Message::parse(&line.as_bytes()[..at]), Err(Nonsense::Checksum));
        prop_assert_eq!(Message::parse(&line.as_bytes()[at..]), Err(Nonsense::Checksum));
    }

    #[test]
    fn noise_neither_parses_nor_panics(noise: Vec<u8>) {
        prop_assert!(Message::parse(&noise).is_err());
        prop_assert!(Command::parse(&noise).is_err());
    }

    #[test]
    fn any_words_under_a_right_checksum_do_not_panic(words in "[RSC]( ([0-9]{1,25}|[a-z-]{0,9})){0,20}") {
        let line = seal(&words);
        let _ = Message::parse(line.as_bytes());
        let _ = Command::parse(line.as_bytes());
    }

    #[test]
    fn lines_come_out_whole_however_they_arrive(messages in prop::collection::vec(messages(), 0..5), piece in 1..40usize) {
        let text: String = messages.iter().map(Message::line).collect();
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            lines.push(piece, |line| found.push(Message::parse(line).unwrap()));
        }
        prop_assert_eq!(found, messages);
    }
}

#[test]
fn a_line_without_end_takes_no_memory_and_hides_nothing() {
    let mut lines = Lines::default();
    lines.push(&vec![b'x'; 1 << 20], |_| panic!("no line has ended"));
    assert!(lines.line.capacity() < 1 << 12);
    let report = Message::Report(Report::default());
    let mut found = Vec::new();
    lines.push(b"\n", |line| found.push(Message::parse(line)));
    lines.push(report.line().as_bytes(), |line| found.push(Message::parse(line)));
    assert_eq!(found, [Ok(report)]);
}

#[test]
fn what_would_be_divided_by_is_never_zero() {
    assert_eq!(Command::parse(seal("C 1 speed 1 0 1").as_bytes()), Err(Nonsense::Unknown));
    assert_eq!(Command::parse(seal("C 1 load 1001").as_bytes()), Err(Nonsense::Unknown));
}
