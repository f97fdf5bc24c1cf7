//! The SOAP envelopes that AMT is sent (DMTF DSP0226, WS-Management). The header's children stand in the order that
//! working clients use.

use std::fmt::Write as _;

/// XML namespaces and the bases of class names.
pub(super) mod ns {
    pub(crate) const SOAP: &str = "http://www.w3.org/2003/05/soap-envelope";
    pub(crate) const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
    pub(crate) const WSMAN: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd";
    pub(crate) const ENUMERATION: &str = "http://schemas.xmlsoap.org/ws/2004/09/enumeration";
    pub(crate) const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
    pub(crate) const CIM: &str = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/";
    pub(crate) const IPS: &str = "http://intel.com/wbem/wscim/1/ips-schema/1/";
}

/// What is asked for. There is no request that could reset, cycle or turn off a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// The single instance of `CIM_AssociatedPowerManagementService`.
    PowerState,
    /// The same by enumeration, for firmware that refuses the direct way.
    EnumeratePowerState,
    /// The items of an enumeration.
    PullPowerState {
        /// What the answer to the enumeration gave.
        context: String,
    },
    /// Whether the operating system is in its low-power idle: `IPS_PowerManagementService`.
    OsPowerSaving,
    /// Power on, or resume from S3 and S4: request 2.
    PowerOn,
    /// Out of the operating system's low-power idle.
    OsFullPower,
}

/// The power state "on" (DMTF `CIM_PowerManagementService.PowerState`).
const ON: u16 = 2;
/// `OSPowerSavingState` "full power".
const OS_FULL_POWER: u16 = 2;

impl Ask {
    fn class(&self) -> String {
        match self {
            Self::PowerState | Self::EnumeratePowerState | Self::PullPowerState { .. } => {
                format!("{}CIM_AssociatedPowerManagementService", ns::CIM)
            }
            Self::PowerOn => format!("{}CIM_PowerManagementService", ns::CIM),
            Self::OsPowerSaving | Self::OsFullPower => format!("{}IPS_PowerManagementService", ns::IPS),
        }
    }

    fn action(&self) -> String {
        match self {
            Self::PowerState | Self::OsPowerSaving => format!("{}/Get", ns::TRANSFER),
            Self::EnumeratePowerState => format!("{}/Enumerate", ns::ENUMERATION),
            Self::PullPowerState { .. } => format!("{}/Pull", ns::ENUMERATION),
            Self::PowerOn => format!("{}/RequestPowerStateChange", self.class()),
            Self::OsFullPower => format!("{}/RequestOSPowerSavingStateChange", self.class()),
        }
    }

    fn body(&self) -> String {
        let class = self.class();
        match self {
            Self::PowerState | Self::OsPowerSaving => String::new(),
            Self::EnumeratePowerState => format!(r#"<Enumerate xmlns="{}"/>"#, ns::ENUMERATION),
            Self::PullPowerState { context } => format!(
                r#"<Pull xmlns="{}"><EnumerationContext>{}</EnumerationContext></Pull>"#,
                ns::ENUMERATION,
                escape(context)
            ),
            Self::PowerOn => format!(
                "<p:RequestPowerStateChange_INPUT xmlns:p=\"{class}\"><p:PowerState>{ON}</p:PowerState>{}\
                 </p:RequestPowerStateChange_INPUT>",
                managed_element()
            ),
            Self::OsFullPower => format!(
                "<p:RequestOSPowerSavingStateChange_INPUT xmlns:p=\"{class}\">\
                 <p:OSPowerSavingState>{OS_FULL_POWER}</p:OSPowerSavingState>{}\
                 </p:RequestOSPowerSavingStateChange_INPUT>",
                managed_element()
            ),
        }
    }

    /// The whole envelope.
    pub(super) fn envelope(&self, message_id: u64) -> String {
        let (action, class, body) = (self.action(), self.class(), self.body());
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"{soap}\" xmlns:a=\"{addressing}\" \
             xmlns:w=\"{wsman}\"><s:Header><a:Action>{action}</a:Action><a:To>/wsman</a:To>\
             <w:ResourceURI>{class}</w:ResourceURI><a:MessageID>{message_id}</a:MessageID>\
             <a:ReplyTo><a:Address>{addressing}/role/anonymous</a:Address></a:ReplyTo>\
             <w:OperationTimeout>PT60S</w:OperationTimeout></s:Header><s:Body>{body}</s:Body></s:Envelope>",
            soap = ns::SOAP,
            addressing = ns::ADDRESSING,
            wsman = ns::WSMAN,
        )
    }
}

/// The machine itself, as the methods want it named.
fn managed_element() -> String {
    format!(
        "<p:ManagedElement><a:Address>{addressing}/role/anonymous</a:Address><a:ReferenceParameters>\
         <w:ResourceURI>{cim}CIM_ComputerSystem</w:ResourceURI><w:SelectorSet>\
         <w:Selector Name=\"CreationClassName\">CIM_ComputerSystem</w:Selector>\
         <w:Selector Name=\"Name\">ManagedSystem</w:Selector></w:SelectorSet></a:ReferenceParameters></p:ManagedElement>",
        addressing = ns::ADDRESSING,
        cim = ns::CIM,
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}
