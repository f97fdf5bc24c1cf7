//! The experiment comes out as the paper's: who saves more, and why.

use super::*;

fn run_of(mode: Mode) -> Run {
    paused_runtime().unwrap().block_on(energy::run(mode, 1)).unwrap()
}

#[test]
fn post_copy_lets_the_emptied_node_sleep_longer_than_pre_copy() {
    let [none, post, pre] = Mode::ALL.map(run_of);
    for run in [&none, &post, &pre] {
        assert_eq!(run.broken_rules, [""; 0]);
        assert!(
            run.watts
                .values()
                .all(|watts| watts.len() == 300 && watts.iter().all(|watts| (7.0..=120.0).contains(watts)))
        );
    }
    assert_eq!((none.moves.len(), none.slept.values().sum::<u32>()), (0, 0));
    let first = |run: &Run| run.moves.first().cloned().unwrap();
    for run in [&post, &pre] {
        let back = first(run);
        assert_eq!((back.vm.as_str(), back.source.as_str(), back.target.as_str()), ("vm0", "pm1", "pm0"));
        // It calms down at 75 s, and ten seconds are looked back at.
        assert!((82..=92).contains(&back.from), "{back:?}");
    }
    let lasts = |run: &Run| first(run).to.unwrap() - first(run).from;
    assert!(lasts(&pre) > 3 * lasts(&post), "{:?} {:?}", pre.moves, post.moves);
    assert!(post.slept["pm1"] > 2 * pre.slept["pm1"], "{:?} {:?}", post.slept, pre.slept);
    assert!(post.joules < pre.joules && pre.joules < none.joules);
    // The load that comes back finds a node.
    assert!(post.moves.len() >= 2 && post.moves[1].vm.starts_with("vm"), "{:?}", post.moves);
}

#[test]
fn the_table_and_the_figure_tell_of_every_run() {
    let runs = Mode::ALL.map(run_of);
    let table = table(&runs);
    assert_eq!(table.lines().count(), 5, "{table}");
    let svg = chart::svg(&runs, "the <command>");
    assert_eq!(svg.matches("<polygon ").count(), 18, "six nodes in three runs");
    assert!(svg.contains("the &lt;command&gt;") && !svg.contains("NaN"));
    assert!(comparison(&runs).contains("The paper"), "{table}");
}
