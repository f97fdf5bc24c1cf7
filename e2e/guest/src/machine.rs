//! The machine beneath: what an init must do itself, the clock, and the serial port.

use rustix::fs::CWD;
use rustix::mount::{MountFlags, mount as mount_filesystem};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::{OptionalActions, speed, tcgetattr, tcsetattr};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

/// Mounts the kernel's own file systems: devices, and the command line below `/proc`.
pub(crate) fn mount() -> io::Result<()> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        if rustix::fs::statat(CWD, target, rustix::fs::AtFlags::empty()).is_err() {
            std::fs::create_dir(target)?;
        }
        mount_filesystem(kind, target, kind, MountFlags::empty(), None)?;
    }
    Ok(())
}

/// Time since boot. It stands still while the machine is paused, as during the downtime of a migration.
pub(crate) fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// Ends the machine; QEMU exits.
pub(crate) fn power_off() -> io::Result<()> {
    Ok(reboot(RebootCommand::PowerOff)?)
}

/// A serial port that passes bytes on as they are.
pub(crate) struct Port(File);

impl Port {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut settings = tcgetattr(&file)?;
        settings.make_raw();
        settings.set_speed(speed::B115200)?;
        tcsetattr(&file, OptionalActions::Flush, &settings)?;
        Ok(Self(file))
    }

    pub(crate) fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(bytes)
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.0).write_all(bytes)
    }
}
