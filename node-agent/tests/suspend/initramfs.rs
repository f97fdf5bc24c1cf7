//! What the guest boots into: the agent as it was built for this test, a shell, and the libraries of both.

use anyhow::{Context as _, ensure};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Reads commands from the second serial port, one a line, and says how each ended.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox stty -F /dev/ttyS1 raw -echo
exec < /dev/ttyS1 > /dev/ttyS1 2>&1
echo "=ended 0"
while read -r command; do
    eval "$command"
    echo "=ended $?"
done
"#;

/// Makes it in `folder` and gives its path.
pub(super) fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    let root = folder.join("root");
    for part in ["bin", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(part))?;
    }
    let agent = root.join("bin/miyako-agent");
    run(Command::new("strip").arg("-o").arg(&agent).arg(env!("CARGO_BIN_EXE_miyako-agent")))?;
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).context("is the package busybox-static installed? (e2e/tools/apt)")?;
    for library in libraries(&agent)? {
        let target = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(target.parent().context("a library has no folder")?)?;
        fs::copy(&library, target).with_context(|| library.display().to_string())?;
    }
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    // Not compressed: an emulated processor takes longer to unpack it than to read it.
    let image = folder.join("initramfs");
    let pack = "find . | cpio --quiet --create --format=newc --owner=+0:+0 > ../initramfs";
    run(Command::new("sh").args(["-c", pack]).current_dir(&root))?;
    Ok(image)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// The files that the loader maps for a program, the loader among them.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8(output.stdout)?;
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}
