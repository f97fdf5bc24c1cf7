//! Why the rest of a connection is not understood.

/// Why everything from some byte of a connection on is carried as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Pre-copy has sent its memory; the devices follow, whose sections have no length.
    Devices,
    /// The stream is over; what follows belongs to nobody.
    Over,
    /// Somebody asked for it: the kill switch, the rules of stepping aside, the end of the input.
    Asked,
    /// The connection begins as none of QEMU's migration does.
    Start,
    /// The header's version, or a subsection of the configuration that we don't know.
    Configuration,
    /// Pages are not of 4096 bytes.
    PageSize,
    /// Memory that is shared rather than sent (`x-ignore-shared`): lists of blocks have one more field.
    SharedMemory,
    /// A section of a type or version that we don't know.
    Section,
    /// A section beside RAM that is sent while the guest runs and has no length, such as a VFIO device's.
    LiveSection,
    /// A command that we don't know.
    Command,
    /// A RAM record with flags that we don't know, compressed pages among them.
    Record,
    /// A list of blocks, or a block's name, that makes no sense.
    Blocks,
    /// A page outside of its block.
    Place,
    /// A multifd packet whose header makes no sense.
    Packet,
    /// multifd with compression, device state, or another flag that we don't know.
    PacketFlags,
}

impl Reason {
    /// As metrics and Events name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Devices => "Devices",
            Self::Over => "Over",
            Self::Asked => "Asked",
            Self::Start => "UnknownStart",
            Self::Configuration => "UnknownConfiguration",
            Self::PageSize => "OtherPageSize",
            Self::SharedMemory => "SharedMemory",
            Self::Section => "UnknownSection",
            Self::LiveSection => "LiveSection",
            Self::Command => "UnknownCommand",
            Self::Record => "UnknownRecord",
            Self::Blocks => "BadBlocks",
            Self::Place => "BadPlace",
            Self::Packet => "BadPacket",
            Self::PacketFlags => "UnknownPacketFlags",
        }
    }

    /// Whether it is how streams end that were understood to the last page.
    #[must_use]
    pub fn is_ordinary(self) -> bool {
        matches!(self, Self::Devices | Self::Over | Self::Asked)
    }
}
