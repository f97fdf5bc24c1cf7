//! Layouts as kubelets and container runtimes make them, as directory trees.

use super::{find::pod_uid, *};
use crate::load::{
    files::Buffer,
    kernel_text::proc::Traffic,
    usage::{Cpu, Pressure},
};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const UID: &str = "0e9c6e1a-4a0a-4f57-8d0b-0c7e3c1c9a11";
const OTHER: &str = "6f1f0b7c-98a5-4a51-9d5e-5f6d2f6c7e02";
const CONTAINER: &str = "3a7d7f5b0c6e4f58a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718";

fn under(root: &Path, paths: &[String]) {
    for path in paths {
        fs::create_dir_all(root.join(path)).unwrap();
    }
}

/// Where the pod with `UID` is found in a tree with these directories.
fn found(paths: &[String]) -> Option<PathBuf> {
    let root = tempfile::tempdir().unwrap();
    under(root.path(), paths);
    pod_groups(root.path()).unwrap().remove(UID)
}

fn slice(uid: &str) -> String {
    uid.replace('-', "_")
}

#[test]
fn systemd_with_containerd_and_cri_o() {
    let uid = slice(UID);
    for container in [format!("cri-containerd-{CONTAINER}.scope"), format!("crio-{CONTAINER}.scope")] {
        let burstable = format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice");
        assert_eq!(found(&[format!("{burstable}/{container}")]), Some(burstable.into()));
        let best_effort = format!("kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{uid}.slice");
        assert_eq!(found(&[format!("{best_effort}/{container}")]), Some(best_effort.into()));
        let guaranteed = format!("kubepods.slice/kubepods-pod{uid}.slice");
        assert_eq!(found(&[format!("{guaranteed}/{container}/container")]), Some(guaranteed.into()));
    }
}

#[test]
fn cgroupfs_with_and_without_a_level() {
    for container in [CONTAINER.to_owned(), format!("crio-{CONTAINER}")] {
        for pod in [format!("kubepods/burstable/pod{UID}"), format!("kubepods/pod{UID}")] {
            assert_eq!(found(&[format!("{pod}/{container}")]), Some(pod.into()));
        }
    }
}

#[test]
fn nested_below_other_groups() {
    let uid = slice(UID);
    let kind = format!(
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{uid}.slice"
    );
    assert_eq!(found(&[format!("{kind}/cri-containerd-{CONTAINER}.scope")]), Some(kind.into()));
    let lab = format!("lab/node-1/kubepods/burstable/pod{UID}");
    assert_eq!(found(&[format!("{lab}/compute")]), Some(lab.into()));
}

#[test]
fn what_is_no_pods_is_passed_over() {
    let uid = slice(UID);
    assert_eq!(found(&[format!("machine.slice/libpod-pod{UID}"), format!("user.slice/user-pod{uid}.slice")]), None);
    assert_eq!(found(&["kubepods/burstable/podother".to_owned(), format!("kubepods/burstable/{UID}")]), None);
    assert_eq!(pod_uid("pod0a1b2c"), Some("0a1b2c".to_owned()), "a static pod's uid has no dashes");
    for name in ["pod", "kubepods-pod.slice", "kubepods-burstable.slice", ".slice", "-pod.slice"] {
        assert_eq!(pod_uid(name), None, "{name}");
    }
}

#[test]
fn all_pods_are_found_and_none_within_another() {
    let root = tempfile::tempdir().unwrap();
    under(
        root.path(),
        &[
            format!("kubepods/burstable/pod{UID}/{CONTAINER}/kubepods/pod{OTHER}"),
            format!("kubepods/pod{OTHER}/{CONTAINER}"),
        ],
    );
    let expected = BTreeMap::from([
        (UID.to_owned(), PathBuf::from(format!("kubepods/burstable/pod{UID}"))),
        (OTHER.to_owned(), PathBuf::from(format!("kubepods/pod{OTHER}"))),
    ]);
    assert_eq!(pod_groups(root.path()).unwrap(), expected);
    assert!(pod_groups(&root.path().join("none")).is_err());
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory).unwrap();
    for (name, text) in files {
        fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
fn version_2_counts_in_one_tree() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("cgroup.controllers", "cpu io memory\n")]);
    let group = Path::new("/kubepods.slice/pod");
    write(
        &root.path().join("kubepods.slice/pod"),
        &[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1\nsystem_usec 1\nthrottled_usec 7\n"),
            ("cpu.max", "150000 100000\n"),
            ("memory.current", "5000\n"),
            ("memory.stat", "anon 1\ninactive_file 1000\nactive_file 9\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n253:0 rbytes=10 wbytes=20 rios=1\n"),
            ("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\n"),
        ],
    );
    let trees = Hierarchies::below(root.path()).unwrap();
    let counters = Group::open(&trees, group).unwrap().read(&mut Buffer::default(), |major| major != 253).unwrap();
    assert_eq!((counters.cpu, counters.throttled), (Cpu::Nanos(1_500_000), Some(7_000)));
    assert_eq!((counters.memory, counters.disk), (Some(4000), Some(Traffic { inward: 10, outward: 20 })));
    assert_eq!(counters.pressure, Pressure { cpu: Some(11), memory: None, io: None });
    assert_eq!((quota(&trees, group), quota(&trees, Path::new("/"))), (Some(1.5), None));
}

#[test]
fn version_1_counts_in_a_tree_for_each_controller() {
    let root = tempfile::tempdir().unwrap();
    let group = "kubepods/pod";
    let tree = |controller: &str| root.path().join(controller).join(group);
    write(
        &tree("cpu,cpuacct"),
        &[
            ("cpuacct.usage", "1500000\n"),
            ("cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 7000\n"),
            ("cpu.cfs_quota_us", "50000\n"),
            ("cpu.cfs_period_us", "100000\n"),
        ],
    );
    write(
        &tree("memory"),
        &[("memory.usage_in_bytes", "5000\n"), ("memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n")],
    );
    write(
        &tree("blkio"),
        &[("blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n")],
    );
    let trees = Hierarchies::below(root.path()).unwrap();
    let group = Path::new(group);
    let counters = Group::open(&trees, group).unwrap().read(&mut Buffer::default(), |_| true).unwrap();
    assert_eq!((counters.cpu, counters.throttled), (Cpu::Nanos(1_500_000), Some(7_000)));
    assert_eq!((counters.memory, counters.disk), (Some(4000), Some(Traffic { inward: 10, outward: 20 })));
    assert_eq!(counters.pressure, Pressure::default());
    assert_eq!(quota(&trees, group), Some(0.5));
}

#[test]
fn a_place_without_control_groups_is_told() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(Hierarchies::below(root.path()), None);
    assert_eq!(Hierarchies::below(&root.path().join("none")), None);
}

#[test]
fn a_half_written_file_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("cgroup.controllers", "cpu\n"), ("cpu.stat", "usage_usec 15x")]);
    let trees = Hierarchies::below(root.path()).unwrap();
    let error = Group::open(&trees, Path::new("/")).unwrap().read(&mut Buffer::default(), |_| true).unwrap_err();
    assert!(error.to_string().contains("cpu.stat"), "{error}");
}

proptest! {
    #[test]
    fn every_uid_is_found_in_either_spelling(uid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}") {
        prop_assert_eq!(pod_uid(&format!("pod{uid}")), Some(uid.clone()));
        for parent in ["kubepods", "kubepods-burstable", "kubelet-kubepods-besteffort"] {
            prop_assert_eq!(pod_uid(&format!("{parent}-pod{}.slice", slice(&uid))), Some(uid.clone()));
        }
    }

    #[test]
    fn no_name_makes_the_search_panic(name in ".{0,80}") {
        let _ = pod_uid(&name);
    }
}
