//! `miyako-agent wake …`: the wake drivers for people, without a cluster.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use miyako_agent::wake::{AllowedHosts, Belief, Driver, DriverError, Node, Patience, WattsReading, driver_for, wake};
use miyako_api::node_power_class::{WakeDriver, WakeProtocol, WakeTls, WakeTlsVersion};
use std::{collections::BTreeMap, path::PathBuf};

#[derive(Subcommand)]
pub(crate) enum WakeCommand {
    /// Ask how the machine is, and what it draws where its BMC measures that, and change nothing.
    ///
    /// Without --certificate-sha256 and --ca-file this shows the certificate's fingerprint and stops: compare it with
    /// the one in the BMC's own menu, then give it here and in the NodePowerClass.
    ///
    ///   miyako-agent wake probe --driver redfish --address https://bmc-7.example.org --credentials-file bmc.yaml
    #[command(verbatim_doc_comment)]
    Probe(Machine),
    /// Wake the machine, or turn it on if it is off, and watch until it is on.
    ///
    /// Its state is read first; nothing is requested of a machine that is on. No reset, cycle or power-off is ever
    /// requested.
    Wake(Wake),
    /// Print what the machine draws, in watts (Redfish, IPMI with DCMI).
    Watts(Machine),
}

#[derive(Args)]
pub(crate) struct Machine {
    /// How its BMC or network card is spoken to.
    #[arg(long, value_enum)]
    driver: Protocol,
    /// Where. redfish: https://HOST[:PORT]; amt: HOST, https://HOST[:16993] or http://HOST[:16992]; ipmi: HOST[:623];
    /// wol: the network card's MAC address.
    #[arg(long)]
    address: String,
    /// A file with the lines `username: NAME` and `password: WORD`. Not needed for wol. Never give a password as an
    /// argument: everybody on the machine can read arguments.
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// The SHA-256 fingerprint of the certificate to trust (redfish, amt). Can be given several times.
    #[arg(long, value_name = "HEX")]
    certificate_sha256: Vec<String>,
    /// CA certificates to trust (PEM; redfish, amt). The system's are not.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The newest TLS to speak, for firmware that fails with 1.3.
    #[arg(long, value_name = "VERSION", value_parser = ["1.2", "1.3"])]
    tls_max: Option<String>,
    /// Where to send magic packets (wol), by default 255.255.255.255:9.
    #[arg(long, value_name = "IPV4[:PORT]")]
    broadcast: Option<String>,
}

#[derive(Args)]
pub(crate) struct Wake {
    #[command(flatten)]
    machine: Machine,
    /// The machine is known to be suspended: wake it even if its BMC says that it is on, as some do of S3.
    #[arg(long)]
    asleep: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// Intel Active Management Technology.
    Amt,
    /// DMTF Redfish.
    Redfish,
    /// IPMI 2.0 over LAN.
    Ipmi,
    /// Wake-on-LAN: nothing answers, so nothing can be verified.
    Wol,
}

impl Machine {
    /// The same way as from a NodePowerClass, so that what works here works there.
    fn driver(&self) -> anyhow::Result<Box<dyn Driver>> {
        let read = |file: &PathBuf| std::fs::read_to_string(file).with_context(|| file.display().to_string());
        let tls = WakeTls {
            certificate_sha256: self.certificate_sha256.clone(),
            ca_certificates: self.ca_file.as_ref().map(read).transpose()?,
            max_version: self.tls_max.as_deref().map(|version| match version {
                "1.2" => WakeTlsVersion::Tls12,
                _ => WakeTlsVersion::Tls13,
            }),
        };
        let spec = WakeDriver {
            driver: match self.driver {
                Protocol::Amt => WakeProtocol::Amt,
                Protocol::Redfish => WakeProtocol::Redfish,
                Protocol::Ipmi => WakeProtocol::Ipmi,
                Protocol::Wol => WakeProtocol::Wol,
            },
            address: self.address.clone(),
            secret_ref: None,
            nodes: Vec::new(),
            tls: Some(tls),
            broadcast: self.broadcast.clone(),
        };
        let secret = match &self.credentials_file {
            Some(file) => Some(secret(&read(file)?).with_context(|| file.display().to_string())?),
            None if spec.driver == WakeProtocol::Wol => None,
            None => bail!("--credentials-file is missing: a file with the lines `username: NAME` and `password: WORD`"),
        };
        Ok(driver_for(
            &spec,
            Node { name: "machine", labels: &BTreeMap::new() },
            secret.as_ref(),
            &AllowedHosts::default(),
        )?)
    }
}

/// The file as a Secret's data.
fn secret(text: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let credentials = miyako_agent::wake::Credentials::parse_file(text)?;
    let value = |text: &str| text.as_bytes().to_vec();
    Ok(BTreeMap::from([
        ("username".to_owned(), value(credentials.username())),
        ("password".to_owned(), value(credentials.password())),
    ]))
}

pub(crate) async fn run(command: WakeCommand) -> anyhow::Result<()> {
    match command {
        WakeCommand::Probe(machine) => {
            let driver = machine.driver()?;
            println!("{}", driver.read().await.map_err(explained)?);
            // Most BMCs measure, and those that don't are not the worse for it; `watts` says why.
            if let Ok(reading) = driver.watts().await {
                println!("{}", draws(&reading));
            }
        }
        WakeCommand::Watts(machine) => {
            let reading = machine.driver()?.watts().await.map_err(explained)?;
            println!("{}", draws(&reading));
        }
        WakeCommand::Wake(Wake { machine, asleep }) => {
            let belief = if asleep { Belief::Asleep } else { Belief::Nothing };
            let drivers = vec![machine.driver()?];
            let woken = wake(&drivers, belief, Patience::default(), 1).await?;
            match (woken.by, woken.verified) {
                (None, _) => println!("it was on already: {}", woken.evidence),
                (Some(_), true) => println!("it is on: {} after {} requests", woken.evidence, woken.requests),
                (Some(_), false) => {
                    println!("the request was sent, but nothing proves that it is on: {}", woken.evidence)
                }
            }
        }
    }
    Ok(())
}

fn draws(reading: &WattsReading) -> String {
    format!("{:.0} W ({})", reading.watts, reading.evidence)
}

fn explained(error: DriverError) -> anyhow::Error {
    anyhow::anyhow!("{error}\n{}", error.check())
}
