//! The API server's verdicts on `e2e/fixtures/crs`: good ones pass as they are, bad ones are refused at the field that
//! the file's first line names.

use anyhow::{Context as _, ensure};
use miyako::lint;
use miyako::lint::{Finding, Severity};
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

/// `miyako lint` says the same offline: an error at each field that the API server names, in its words.
pub(crate) async fn lint_says_the_same(scene: Arc<Scene>) -> anyhow::Result<()> {
    scene.install_our_crds().await?;
    let server = lint::apiserver::ApiServer::new();
    let mut wrong = Vec::new();
    for (name, text) in files("bad")?.into_iter().chain(files("good")?) {
        for document in texts(&text) {
            let mut input = lint::input::Input::default();
            input.add(&name, document);
            let report = lint::judge(&server, &input);
            let found: Vec<_> = report.findings.iter().filter(|one| one.severity == Severity::Error).collect();
            let verdict = try_create(&scene.admin(), document).await?;
            if verdict.is_ok() != found.is_empty() {
                wrong.push(format!("{name}: the API server says {verdict:?}, lint {found:?}"));
            }
            let Err(kube::Error::Api(status)) = verdict else { continue };
            // The API server lists so many of an object's errors and no more; which ones, it leaves to chance.
            if found.iter().any(|one| one.problem.ends_with("more errors")) {
                continue;
            }
            for cause in status.details.iter().flat_map(|details| &details.causes) {
                // Not an error of the object: CEL rules look only at what the schema takes.
                if cause.message.contains("some validation rules were not checked") {
                    continue;
                }
                let same = |one: &&&Finding| one.field == cause.field && cause.message.contains(&one.problem);
                if found.iter().find(same).is_none() {
                    wrong.push(format!("{name}: the API server says {cause:?}, lint {found:?}"));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "lint and the API server differ:\n{}", wrong.join("\n"));
    Ok(())
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
