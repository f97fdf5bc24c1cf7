//! The API server's verdicts on `e2e/fixtures/crs`: good ones pass as they are, bad ones are refused at the field that
//! the file's first line names.

use anyhow::{Context as _, ensure};
use miyako_e2e::control_plane::objects::{texts, try_create};
use miyako_e2e::scene::Scene;
use miyako_e2e::tools::workspace_root;
use std::path::PathBuf;
use std::sync::Arc;

/// Every good file is taken without a complaint.
pub(crate) async fn good_resources_are_taken(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    let mut wrong = Vec::new();
    for (name, text) in files("good")? {
        for document in texts(&text) {
            if let Err(refusal) = try_create(&scene.admin(), document).await? {
                wrong.push(format!("{name}: {refusal}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "good, but refused:\n{}", wrong.join("\n"));
    Ok(())
}

/// Every bad file is refused, and the refusal names the field.
pub(crate) async fn bad_resources_are_refused(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    let mut wrong = Vec::new();
    for (name, text) in files("bad")? {
        let field = text.lines().next().and_then(|line| line.strip_prefix("# ")).context(name.clone())?;
        let mut refusals = Vec::new();
        for document in texts(&text) {
            if let Err(refusal) = try_create(&scene.admin(), document).await? {
                refusals.push(refusal);
            }
        }
        if !refusals.iter().any(|refusal| names(refusal, field)) {
            wrong.push(format!("{name}: expected {field}, got {refusals:?}"));
        }
    }
    ensure!(wrong.is_empty(), "bad, but not refused at the right field:\n{}", wrong.join("\n"));
    Ok(())
}

/// Whether a refusal is about this field: one of its causes is, or it is a field that the schema does not know, which
/// the API server tells in words alone.
fn names(refusal: &kube::Error, field: &str) -> bool {
    let kube::Error::Api(status) = refusal else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.field == field)
        || status.message.contains(&format!("unknown field \"{field}\""))
}

/// Name and text of the fixtures of one folder, in order.
fn files(folder: &str) -> anyhow::Result<Vec<(String, String)>> {
    let path = workspace_root().join("e2e/fixtures/crs").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.sort();
    ensure!(!paths.is_empty(), "no fixtures in {}", path.display());
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, std::fs::read_to_string(&path)?))
        })
        .collect()
}
