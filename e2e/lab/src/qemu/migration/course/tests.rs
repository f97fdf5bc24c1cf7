use super::*;
use proptest::prelude::*;
use std::time::Duration;

/// A migration heard of in pieces.
struct Story {
    course: Course,
    now: Instant,
}

use End::{Source, Target};
use Happening::{Migration, Resume, Stop};

impl Story {
    fn begin() -> Self {
        let now = Instant::now();
        let mut story = Self { course: Course::new(now, true), now };
        story.hear(&[(Target, Migration(Status::Setup)), (Source, Migration(Status::Setup))]);
        story.hear(&[(Source, Migration(Status::Active)), (Target, Migration(Status::Active))]);
        assert_eq!(story.phase(), Phase::PreCopy(Progress::default()));
        story
    }

    fn hear(&mut self, said: &[(End, Happening)]) {
        for (end, happening) in said {
            self.now += Duration::from_millis(1);
            self.course.heard(*end, &Event { at: self.now, happening: happening.clone() });
        }
    }

    fn phase(&mut self) -> Phase {
        self.course.phase(self.now)
    }

    /// Nothing more is heard.
    fn wait(&mut self) -> Phase {
        self.now += LAST_WORDS;
        self.phase();
        self.now += LAST_WORDS;
        self.phase()
    }
}

#[test]
fn pre_copy_runs_the_target_only_when_the_source_is_done() {
    let mut story = Story::begin();
    story.hear(&[(Source, Stop), (Target, Migration(Status::Completed))]);
    assert_eq!(story.course.errand(), None, "the source may still go on");
    story.hear(&[(Source, Migration(Status::Completed))]);
    assert_eq!(story.course.errand(), Some(Target));
    assert_eq!(story.course.errand(), None, "once is enough");
    assert!(matches!(story.phase(), Phase::PreCopy(_)), "it does not run yet");
    story.hear(&[(Target, Resume)]);
    assert_eq!(story.phase(), Phase::Ended(Outcome::Completed(Mode::PreCopy)));
    assert_eq!(story.course.times.downtime(), Some(Duration::from_millis(3)));
}

#[test]
fn a_guest_that_did_not_run_does_not_run_afterwards() {
    let mut story = Story::begin();
    story.course = Course::new(story.now, false);
    story.hear(&[(Source, Migration(Status::Completed)), (Target, Migration(Status::Completed))]);
    assert_eq!(story.course.errand(), None);
    assert_eq!(story.phase(), Phase::Ended(Outcome::Completed(Mode::PreCopy)));
}

#[test]
fn post_copy_runs_the_target_at_once_and_ends_when_all_has_arrived() {
    let mut story = Story::begin();
    story.hear(&[(Source, Migration(Status::PostcopyActive)), (Source, Stop)]);
    assert_eq!(story.course.errand(), Some(Target));
    story.hear(&[(Target, Migration(Status::PostcopyActive)), (Target, Resume)]);
    assert_eq!(story.phase(), Phase::PostCopy(Progress::default()));
    story.hear(&[(Target, Migration(Status::Completed))]);
    assert!(matches!(story.phase(), Phase::PostCopy(_)));
    story.hear(&[(Source, Migration(Status::Completed))]);
    assert_eq!(story.phase(), Phase::Ended(Outcome::Completed(Mode::PostCopy)));
}

#[test]
fn a_source_that_dies_when_all_has_arrived_is_not_missed() {
    let mut story = Story::begin();
    story.hear(&[
        (Source, Migration(Status::PostcopyActive)),
        (Target, Resume),
        (Target, Migration(Status::Completed)),
    ]);
    story.course.died(Source);
    assert_eq!(story.phase(), Phase::Ended(Outcome::Completed(Mode::PostCopy)));
}

#[test]
fn before_the_switch_whatever_happens_to_the_target_leaves_the_source() {
    let mut died = Story::begin();
    died.course.died(Target);
    assert!(matches!(died.wait(), Phase::PreCopy(_)), "the source has not noticed, and someone must cancel");
    died.hear(&[(Source, Migration(Status::Failed))]);
    assert_eq!(died.phase(), Phase::Ended(Outcome::Failed(Cause::TargetDied)));

    let mut cut = Story::begin();
    cut.hear(&[(Source, Migration(Status::Failed))]);
    assert!(matches!(cut.phase(), Phase::PreCopy(_)), "the target may be about to be found dead");
    assert_eq!(cut.wait(), Phase::Ended(Outcome::Failed(Cause::Broken)));

    let mut cancelled = Story::begin();
    cancelled.course.told_to_cancel();
    cancelled.hear(&[(Source, Migration(Status::Cancelling)), (Source, Migration(Status::Cancelled))]);
    assert_eq!(cancelled.phase(), Phase::Ended(Outcome::Cancelled));
}

#[test]
fn a_target_that_dies_with_everything_and_before_it_ran_gives_the_guest_back() {
    let mut story = Story::begin();
    story.hear(&[(Source, Stop), (Source, Migration(Status::Completed))]);
    story.course.died(Target);
    assert_eq!(story.course.errand(), Some(Source));
    story.hear(&[(Source, Resume)]);
    assert_eq!(story.phase(), Phase::Ended(Outcome::Failed(Cause::TargetDied)));
}

#[test]
fn after_the_switch_either_end_takes_the_guest_with_it() {
    let switched = [(Source, Migration(Status::PostcopyActive)), (Source, Stop), (Target, Resume)];
    for (victim, cause) in [(Source, Cause::SourceDied), (Target, Cause::TargetDied)] {
        let mut story = Story::begin();
        story.hear(&switched);
        story.course.died(victim);
        assert_eq!(story.wait(), Phase::Ended(Outcome::Lost(cause)));
    }
    let mut cut = Story::begin();
    cut.hear(&switched);
    cut.hear(&[(Source, Migration(Status::PostcopyPaused)), (Target, Migration(Status::PostcopyPaused))]);
    assert_eq!(cut.wait(), Phase::Ended(Outcome::Lost(Cause::Broken)));
}

#[test]
fn a_switch_that_does_not_come_about_leaves_the_source() {
    let mut story = Story::begin();
    story.hear(&[(Source, Migration(Status::PostcopyActive)), (Source, Stop)]);
    story.hear(&[(Source, Migration(Status::Failed)), (Source, Resume)]);
    assert_eq!(story.wait(), Phase::Ended(Outcome::Failed(Cause::Broken)));
}

fn happenings() -> impl Strategy<Value = (bool, Happening)> {
    let status = prop::sample::select(vec![
        Status::Setup,
        Status::Active,
        Status::Device,
        Status::PostcopyActive,
        Status::PostcopyPaused,
        Status::Cancelling,
        Status::Cancelled,
        Status::Failed,
        Status::Completed,
        Status::Other("wait-unplug".to_owned()),
    ]);
    let happening = prop_oneof![
        Just(Stop),
        Just(Resume),
        (0..5u64).prop_map(Happening::MigrationPass),
        status.prop_map(Migration),
    ];
    (any::<bool>(), happening)
}

proptest! {
    #[test]
    fn whatever_is_heard_no_outcome_claims_a_dead_end(said in prop::collection::vec(happenings(), 0..30),
                                                      deaths in prop::collection::vec((any::<bool>(), 0..30usize), 0..3)) {
        let mut story = Story::begin();
        let end = |source: bool| if source { Source } else { Target };
        let (mut source_dead, mut target_dead) = (false, false);
        let mut errands = 0;
        for (index, (source, happening)) in said.iter().enumerate() {
            for (source, _) in deaths.iter().filter(|(_, at)| *at == index) {
                story.course.died(end(*source));
                source_dead |= *source;
                target_dead |= !*source;
            }
            let silent = if *source { source_dead } else { target_dead };
            if !silent {
                story.hear(&[(end(*source), happening.clone())]);
            }
            if let Some(end) = story.course.errand() {
                errands += 1;
                let dead = if end == Source { source_dead } else { target_dead };
                prop_assert!(!dead);
            }
            match story.phase() {
                Phase::Ended(Outcome::Completed(_)) => prop_assert!(!target_dead),
                Phase::Ended(Outcome::Failed(_) | Outcome::Cancelled) => prop_assert!(!source_dead),
                _ => {}
            }
        }
        prop_assert!(errands <= 2);
    }
}
