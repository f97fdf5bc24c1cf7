//! The kit as a page to read and print.

use super::{KitNode, WakeKit};
use std::fmt;

impl fmt::Display for WakeKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Waking nodes without the cluster\n")?;
        writeln!(
            f,
            "Written {} by `miyako wake-kit`. Write it anew when nodes, addresses or classes change, and keep it where it can be read while the cluster is down.\n",
            self.written
        )?;
        writeln!(
            f,
            "While the API server answers, `miyako wake --all` is shorter. The calls below need a machine that reaches the BMCs' network, and `miyako-agent` or the common tools. Of a node's ways the first that works is enough. None of them resets, cycles or forces off a machine.\n"
        )?;
        self.accounts(f)?;
        for (name, content) in &self.files {
            let language = if name.ends_with(".xml") { "xml" } else { "text" };
            writeln!(f, "## File `{name}`\n\n```{language}\n{}\n```\n", content.trim_end())?;
        }
        if self.nodes.is_empty() {
            writeln!(f, "No NodePowerClass selects a node: there is nothing that Miyako might have put to sleep.")?;
        }
        self.nodes.iter().try_for_each(|node| write!(f, "{node}"))
    }
}

impl WakeKit {
    fn accounts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.accounts.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "## Accounts\n\nNone of them is in here. Keep what these Secrets hold where it can be read without the cluster, too.\n"
        )?;
        writeln!(f, "| Secret | keys | file for `miyako-agent` |\n| --- | --- | --- |")?;
        for account in &self.accounts {
            let keys: Vec<String> = account.keys.iter().map(|key| format!("`{key}`")).collect();
            writeln!(f, "| `{}` | {} | `{}` |", account.secret, keys.join(", "), account.file)?;
        }
        writeln!(
            f,
            "\nSuch a file has the lines `username: NAME` and `password: WORD`. For the common tools: `read -r BMC_USER; read -rs BMC_PASSWORD; export BMC_USER BMC_PASSWORD`.\n"
        )
    }
}

impl fmt::Display for KitNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n", self.name)?;
        let method = self.method.map_or_else(String::new, |method| format!(", sleeps by {method}"));
        let class = self.class.as_deref().map_or_else(String::new, |class| format!(", class {class}{method}"));
        writeln!(f, "{} when this was written{class}. {}\n", self.phase, self.addresses.join(", "))?;
        if let Some(why) = &self.no_way {
            match self.ways.is_empty() {
                true => writeln!(f, "**No way to wake it is known**: {why}. Press its button.\n")?,
                false => writeln!(f, "**Mend this**: {why}.\n")?,
            }
        }
        for (number, way) in self.ways.iter().enumerate() {
            let secret = way.secret.as_ref().map_or_else(String::new, |secret| format!(", account of `{secret}`"));
            let recorded = if way.recorded { ", as recorded when it was last ordered to sleep" } else { "" };
            writeln!(f, "{}. `{}` at `{}`{secret}{recorded}", number + 1, way.driver, way.address)?;
            for fingerprint in &way.certificate_sha256 {
                writeln!(f, "   Certificate SHA-256 `{fingerprint}`.")?;
            }
            writeln!(f, "\n   ```sh\n   {}\n   # or", way.agent)?;
            way.by_hand.iter().try_for_each(|call| writeln!(f, "   {call}"))?;
            writeln!(f, "   ```\n")?;
        }
        Ok(())
    }
}
