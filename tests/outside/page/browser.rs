//! A headless Chromium and as much of its DevTools protocol as the page's test needs.

use anyhow::{Context as _, Result, bail};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// The longest that anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// One tab. Dropping it ends the browser.
pub(crate) struct Tab {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
    /// What the page complained about: exceptions and errors on its console.
    pub(crate) complaints: Vec<String>,
    _browser: Child,
    _profile: tempfile::TempDir,
}

impl Tab {
    /// Starts a browser with an empty tab.
    pub(crate) async fn open() -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let flags = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update \
                     --disable-background-networking --disable-sync --disable-dev-shm-usage --remote-debugging-port=0";
        let browser = Command::new("chromium")
            .args(flags.split_whitespace())
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start `chromium`; install Debian's package (e2e/tools/apt)")?;
        let port = tokio::time::timeout(PATIENCE, port(profile.path())).await.context("chromium does not come up")?;
        let tab: Value = reqwest::Client::new()
            .put(format!("http://127.0.0.1:{port}/json/new?about:blank"))
            .send()
            .await?
            .json()
            .await?;
        let address = tab["webSocketDebuggerUrl"].as_str().context("chromium names no tab")?;
        let (socket, _) = tokio_tungstenite::connect_async(address).await?;
        let mut tab = Self { socket, calls: 0, complaints: Vec::new(), _browser: browser, _profile: profile };
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), json!({})).await?;
        }
        Ok(tab)
    }

    /// Calls a method of the protocol.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.calls += 1;
        let request = json!({"id": self.calls, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(request)).await?;
        loop {
            let message =
                tokio::time::timeout(PATIENCE, self.socket.next()).await.context("chromium does not answer")?;
            let Message::Text(text) = message.context("chromium has gone")?? else { continue };
            let mut answer: Value = serde_json::from_str(&text)?;
            if answer["id"] != json!(self.calls) {
                self.hear(&answer);
                continue;
            }
            if !answer["error"].is_null() {
                bail!("{method}: {}", answer["error"]);
            }
            return Ok(answer["result"].take());
        }
    }

    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        let is_complaint = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => params["type"] == "error",
            Some("Log.entryAdded") => params["entry"]["level"] == "error",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(params.to_string());
        }
    }

    /// Goes to an address.
    pub(crate) async fn visit(&mut self, url: &str) -> Result<()> {
        self.call("Page.navigate", json!({"url": url})).await.map(drop)
    }

    /// The value of an expression.
    pub(crate) async fn value(&mut self, expression: &str) -> Result<Value> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", params).await?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.value(expression).await? != json!(true) {
            if tokio::time::Instant::now() > deadline {
                bail!("in vain: {expression}; the page says: {}", self.value("document.body.innerText").await?);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// What the window shows, as PNG.
    pub(crate) async fn picture(&mut self) -> Result<Vec<u8>> {
        // Two frames later everything is painted.
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
            .await?;
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"})).await?;
        let data = answer["data"].as_str().context("no picture")?;
        Ok(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data)?)
    }

    /// Makes the window this large.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size).await.map(drop)
    }

    /// Asks for a colour scheme as a person's settings would.
    pub(crate) async fn prefer(&mut self, scheme: &str) -> Result<()> {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await.map(drop)
    }
}

/// Where the browser takes DevTools connections: it writes that down in its profile.
async fn port(profile: &Path) -> String {
    loop {
        let told = tokio::fs::read_to_string(profile.join("DevToolsActivePort")).await.unwrap_or_default();
        if let (Some(port), true) = (told.lines().next(), told.lines().count() > 1) {
            return port.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
