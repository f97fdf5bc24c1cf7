//! The demo's page in a real browser.

mod browser;

use anyhow::{Context as _, Result};
use browser::{PATIENCE, Tab};
use serde_json::Value;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A running demo. Dropping it ends it.
struct Demo {
    url: String,
    process: Child,
}

impl Demo {
    async fn start(listen: &str) -> Result<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_miyako"))
            .args(["demo", "--seed", "7", "--speed", "60", "--listen", listen])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().context("no standard output")?;
        let line = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(PATIENCE, async {
            let mut line = line;
            line.next_line().await
        })
        .await??;
        let line = line.context("the demo ended")?;
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).context(line.clone())?;
        Ok(Self { url: url.to_owned(), process })
    }

    async fn state(&self) -> Result<Value> {
        Ok(reqwest::get(format!("{}api/state", self.url)).await?.error_for_status()?.json().await?)
    }
}

/// Remembers what nodes ever looked like: a wake takes seconds of the cluster's time, and the demo runs fast.
const REMEMBER: &str = "window.looks = new Set(); setInterval(() => document.querySelectorAll('.node').forEach((node) => node.classList.forEach((look) => looks.add(look))), 20)";

const LIVE: &str = "document.getElementById('link')?.className === 'link live'";

#[tokio::test]
async fn the_page_shows_the_cluster_follows_it_and_explains_it() -> Result<()> {
    let demo = Demo::start("127.0.0.1:0").await?;
    let mut tab = Tab::open().await?;
    tab.resize(1440, 1000).await?;
    tab.visit(&demo.url).await?;

    // It shows all there is, …
    tab.until(
        "document.querySelectorAll('.node').length === 20 && document.querySelectorAll('.nodes .tile').length === 150",
    )
    .await?;
    tab.until(LIVE).await?;
    tab.until("document.querySelectorAll('.node.rests').length > 0").await?;
    tab.until("document.querySelectorAll('#blockers li:not(.empty)').length > 0").await?;
    // … follows by push: time goes on, and a VM goes to a dedicated node, with its reason, …
    let before = tab.value("document.getElementById('clock').textContent").await?;
    tab.until(&format!("document.getElementById('clock').textContent !== {before}")).await?;
    tab.until("document.querySelectorAll('.dedicated .tile').length > 0").await?;
    tab.until("document.querySelector('#feed .why')?.textContent.length > 20").await?;
    tab.until("document.querySelector('#chart-power polyline') !== null").await?;
    // … and explains on a click; Escape closes and gives the focus back.
    let vm = tab.value("(() => { const tile = document.querySelector('.shared .tile'); tile.focus(); tile.click(); return tile.dataset.vm; })()").await?;
    tab.until(&format!(
        "!document.getElementById('panel').hidden && document.getElementById('panel-title').textContent === {vm}"
    ))
    .await?;
    tab.until("document.querySelector('#panel .says').textContent.startsWith('It ')").await?;
    let escape = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'})); document.getElementById('panel').hidden";
    tab.until(escape).await?;
    tab.until(&format!("document.activeElement.dataset.vm === {vm}")).await?;
    tab.value("document.querySelector('.node-name').click()").await?;
    tab.until("document.getElementById('panel-title').textContent.startsWith('shared-')").await?;
    tab.until(escape).await?;

    // The speed is the page's to set, and standing still is standing still.
    tab.value("(() => { const speed = document.getElementById('speed'); speed.value = '0'; speed.dispatchEvent(new Event('change')); })()").await?;
    // A second that had begun may still end, so it must be seen standing many times in a row.
    let (mut seen, mut standing) = (demo.state().await?, 0);
    for _ in 0..400 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let next = demo.state().await?;
        standing = if next["speed"] == 0 && next["at"] == seen["at"] { standing + 1 } else { 0 };
        if standing == 40 {
            break;
        }
        seen = next;
    }
    assert_eq!(standing, 40, "time stands still at speed 0: {}", seen["at"]);

    // It fits a phone, and it is dark for who likes it dark.
    for (width, height) in [(390, 844), (1440, 1000)] {
        tab.resize(width, height).await?;
        tab.until(&format!("innerWidth === {width}")).await?;
        let needs = tab.value("document.documentElement.scrollWidth").await?;
        assert!(needs.as_u64() <= Some(u64::from(width)), "the page needs {needs} pixels of {width}");
    }
    let ground = "getComputedStyle(document.documentElement).backgroundColor";
    tab.prefer("light").await?;
    let light = tab.value(ground).await?;
    tab.prefer("dark").await?;
    assert_ne!(tab.value(ground).await?, light);
    assert_eq!(tab.complaints, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn the_page_shows_who_sleeps_who_wakes_and_who_does_not_and_why() -> Result<()> {
    let demo = Demo::start("127.0.0.1:0").await?;
    let mut tab = Tab::open().await?;
    tab.resize(1440, 1000).await?;
    tab.visit(&demo.url).await?;
    tab.until(LIVE).await?;
    tab.value(REMEMBER).await?;
    tab.until("looks.has('asleep') && document.getElementById('figure-sleep').textContent !== '0 of 20'").await?;
    tab.until(
        "[...document.querySelectorAll('.node.asleep .rest')].some((rest) => rest.textContent.startsWith('asleep'))",
    )
    .await?;
    tab.until("document.getElementById('figure-saved').textContent.endsWith('Wh') && document.getElementById('figure-power').parentElement.classList.contains('good')").await?;
    // The first wake of every demo fails: its node is being woken for minutes, and then it is given up.
    tab.until("looks.has('waking')").await?;
    tab.until("document.querySelectorAll('.node.lost').length > 0").await?;
    tab.until("document.querySelector('#figure-saved-note').textContent.includes('failed')").await?;
    for word in ["fell asleep", "woke", "does not wake"] {
        tab.until(&format!(
            "[...document.querySelectorAll('#feed .reason')].some((one) => one.textContent === '{word}')"
        ))
        .await?;
    }
    // Why: on the node itself, and in the panel.
    tab.value("document.querySelector('.node.lost .node-name').click()").await?;
    tab.until("document.querySelector('#panel dl')?.textContent.includes('Quarantined')").await?;
    tab.until("[...document.querySelectorAll('#panel h3')].some((title) => title.textContent === 'Its last sleeps and wakes')").await?;
    tab.until("document.querySelectorAll('#blockers li .advice').length > 0").await?;
    // Three lines: if none ever slept, as drawn, and what could be.
    tab.until("['never', 'drawn', 'slept'].every((line) => document.querySelector(`#chart-power .${line}`))").await?;
    let state = demo.state().await?;
    let watts = |name: &str| state["power"][name].as_f64().context(name.to_owned());
    assert!(watts("drawn")? < watts("neverSleeping")?, "{}", state["power"]);
    assert_eq!(tab.complaints, [""; 0]);
    Ok(())
}

/// `make picture`: the README's picture. With `PICTURES` set to a folder, also how the page looks on a phone and in the
/// dark.
#[tokio::test]
#[ignore = "makes a picture"]
async fn the_readmes_picture() -> Result<()> {
    let demo = Demo::start("127.0.0.1:0").await?;
    let mut tab = Tab::open().await?;
    tab.resize(1440, 1180).await?;
    tab.visit(&demo.url).await?;
    tab.until(LIVE).await?;
    tab.until("document.querySelectorAll('.node.lost').length > 0 && document.querySelectorAll('.dedicated .tile').length > 0").await?;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    tab.prefer("light").await?;
    std::fs::write(root.join("docs/images/demo.png"), tab.picture().await?)?;
    let Some(folder) = std::env::var_os("PICTURES").map(std::path::PathBuf::from) else { return Ok(()) };
    tab.prefer("dark").await?;
    std::fs::write(folder.join("dark.png"), tab.picture().await?)?;
    tab.resize(390, 2600).await?;
    std::fs::write(folder.join("phone-dark.png"), tab.picture().await?)?;
    tab.prefer("light").await?;
    std::fs::write(folder.join("phone.png"), tab.picture().await?)?;
    Ok(())
}

#[tokio::test]
async fn a_lost_connection_is_told_and_found_again() -> Result<()> {
    let mut demo = Demo::start("127.0.0.1:0").await?;
    let mut tab = Tab::open().await?;
    tab.visit(&demo.url).await?;
    tab.until(LIVE).await?;
    let address = demo.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    demo.process.kill().await?;
    tab.until("document.getElementById('link').className === 'link lost'").await?;
    let _again = Demo::start(&address).await?;
    tab.until(LIVE).await
}

#[tokio::test]
async fn only_the_page_may_set_the_speed_and_bad_requests_are_told_what_is_wrong() -> Result<()> {
    let demo = Demo::start("127.0.0.1:0").await?;
    let post = |kind: &'static str, body: &'static str| {
        let request = reqwest::Client::new().post(format!("{}api/demo/speed", demo.url)).header("content-type", kind);
        request.body(body).send()
    };
    // Another site's form can send no JSON.
    assert_eq!(post("text/plain", r#"{"speed":1}"#).await?.status(), 415);
    assert_eq!(post("application/json", r#"{"speed":-1}"#).await?.status(), 422);
    let refused = post("application/json", r#"{"speed":3601}"#).await?;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.text().await?, "speed: write 0 (paused) to 3600");
    let unknown = reqwest::get(format!("{}api/explain/vm/no/body", demo.url)).await?;
    assert_eq!(
        (unknown.status().as_u16(), unknown.text().await?.as_str()),
        (404, "there is no VirtualMachineInstance no/body")
    );
    let page = reqwest::get(&demo.url).await?;
    let policy = page.headers().get("content-security-policy").context("no policy")?;
    assert!(policy.to_str()?.starts_with("default-src 'self'"));
    Ok(())
}
