//! `miyako lint` on files: the objects of `e2e/fixtures/crs`, which the control-plane stand also shows to a real API
//! server, and the folders of `tests/lint`, each a set of files and what lint says about them.
//!
//! After a change that is meant, `UPDATE_GOLDEN=1 cargo test -p miyako --test outside lint::` writes the expected texts anew.

use anyhow::{Context, Result};
use miyako::lint::{self, LintArgs, Output, Verdict, apiserver::ApiServer, input::Input};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

fn fixtures(kind: &str) -> Result<Vec<PathBuf>> {
    listed(&root().join("e2e/fixtures/crs").join(kind))
}

fn lint(files: &[PathBuf], strict: bool, output: Output) -> Result<(Verdict, String)> {
    let args = LintArgs { files: files.to_vec(), output, strict };
    let mut out = Vec::new();
    let verdict = lint::run(&args, &mut std::io::empty(), &mut out)?;
    // What is said does not depend on where the repository is.
    let text = String::from_utf8(out)?.replace(&format!("{}/", root().display()), "");
    Ok((verdict, text))
}

fn matches_golden(path: &Path, found: &str) -> Result<()> {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found)?;
    }
    let expected = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    assert!(expected == found, "{} differs; now it is:\n{found}", path.display());
    Ok(())
}

#[test]
fn good_objects_are_taken() -> Result<()> {
    let files = fixtures("good")?;
    assert!(files.len() > 10);
    let server = ApiServer::new();
    for file in files {
        let mut input = Input::default();
        input.add(&file.display().to_string(), &fs::read_to_string(&file)?);
        let report = lint::judge(&server, &input);
        assert_eq!(report.verdict(false), Verdict::Clean, "{report:?}");
    }
    Ok(())
}

#[test]
fn bad_objects_are_refused_at_the_field_they_name() -> Result<()> {
    let server = ApiServer::new();
    let files = fixtures("bad")?;
    assert!(files.len() > 80);
    for file in files {
        let text = fs::read_to_string(&file)?;
        let field =
            text.lines().next().and_then(|line| line.strip_prefix("# ")).context("a field in the first line")?;
        let mut input = Input::default();
        input.add(&file.display().to_string(), &text);
        let report = lint::judge(&server, &input);
        let fields: Vec<_> = report.findings.iter().map(|finding| finding.field.as_str()).collect();
        assert!(fields.contains(&field), "{}: {field} expected, found {fields:?}", file.display());
        assert_eq!(report.verdict(false), Verdict::Errors);
    }
    Ok(())
}

/// Every word of the API server's: the real one says the same (`e2e`).
#[test]
fn bad_objects_are_refused_in_the_api_servers_words() -> Result<()> {
    let server = ApiServer::new();
    let mut verdicts = String::new();
    for file in fixtures("bad")? {
        let mut input = Input::default();
        input.add("", &fs::read_to_string(&file)?);
        verdicts += &format!("== {}\n", file.file_name().unwrap_or_default().to_string_lossy());
        for error in server.create(&input.objects[0].value).err().unwrap_or_default() {
            verdicts += &format!("{error}\n");
        }
    }
    matches_golden(&root().join("tests/lint/verdicts.txt"), &verdicts)
}

#[test]
fn sets_of_files_get_the_advice_they_need() -> Result<()> {
    let mut sets = 0;
    for directory in listed(&root().join("tests/lint"))?.into_iter().filter(|path| path.is_dir()) {
        let (_, text) = lint(std::slice::from_ref(&directory), false, Output::Table)?;
        matches_golden(&directory.join("expected.txt"), &text)?;
        sets += 1;
    }
    assert!(sets >= 5);
    Ok(())
}

fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                found.extend(rule["message"].as_str().map(str::to_owned));
            }
            fields.values().for_each(|value| messages(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
        _ => {}
    }
}

fn object(file: &str) -> Result<Value> {
    let mut input = Input::default();
    input.add(file, &fs::read_to_string(root().join("e2e/fixtures/crs").join(file))?);
    Ok(input.objects[0].value.clone())
}

/// What the API server says to a change of this plan's spec.
fn said_to_change(server: &ApiServer, plan: &Value, change: Value) -> Vec<String> {
    let mut new = plan.clone();
    let spec = new["spec"].as_object_mut().expect("a spec");
    for (field, value) in change.as_object().expect("fields") {
        spec.insert(field.clone(), value.clone());
    }
    spec.retain(|_, value| !value.is_null());
    server.update(plan, &new).err().unwrap_or_default().iter().map(|error| error.body.clone()).collect()
}

#[test]
fn a_name_may_be_left_to_the_api_server() -> Result<()> {
    let mut policy = object("good/policy-smallest.yaml")?;
    policy["metadata"] = json!({"generateName": "nightly-"});
    assert_eq!(ApiServer::new().create(&policy).err(), None);
    policy["metadata"] = json!({});
    let errors = ApiServer::new().create(&policy).err().unwrap_or_default();
    assert_eq!(errors[0].to_string(), "metadata.name: Required value: name or generateName is required");
    Ok(())
}

#[test]
fn plans_change_only_by_an_approval() -> Result<()> {
    let server = ApiServer::new();
    let (proposed, approved) = (object("good/plan-proposed.yaml")?, object("good/plan-approved.yaml")?);
    assert_eq!(said_to_change(&server, &proposed, json!({})), [""; 0]);
    assert_eq!(said_to_change(&server, &proposed, json!({"approved": true, "approvedBy": "jane"})), [""; 0]);
    assert_eq!(said_to_change(&server, &proposed, json!({"approvedBy": "jane"})), [""; 0]);
    assert_eq!(said_to_change(&server, &approved, json!({})), [""; 0]);
    for (plan, change, words) in [
        (&proposed, json!({"policy": "other"}), "change only approved"),
        (&proposed, json!({"mode": "Automatic"}), "change only approved"),
        (&proposed, json!({"createdFor": "fun"}), "change only approved"),
        (&proposed, json!({"summary": "nothing"}), "change only approved"),
        (&proposed, json!({"decidedAt": "2026-01-02T03:04:06Z"}), "change only approved"),
        (&proposed, json!({"expiresAt": "2027-01-02T03:04:06Z"}), "change only approved"),
        (&approved, json!({"steps": proposed["spec"]["steps"]}), "the steps of a ConsolidationPlan"),
        (&approved, json!({"approved": false, "approvedBy": "jane"}), "can't be taken back"),
        (&approved, json!({"approvedBy": "joe"}), "leave approvedBy as it is"),
        (&approved, json!({"approvedBy": null}), "leave approvedBy as it is"),
        (&proposed, json!({"approved": true}), "your own user name"),
        (&proposed, json!({"approved": true, "approvedBy": ""}), "your own user name"),
    ] {
        let said = said_to_change(&server, plan, change.clone());
        assert!(said.iter().any(|said| said.contains(words)), "{change}: {said:?}");
    }
    Ok(())
}

/// A rule that nothing breaks could as well not be there.
#[test]
fn every_rule_is_broken_by_some_fixture() -> Result<()> {
    let server = ApiServer::new();
    let mut rules = BTreeSet::new();
    for kind in server.kinds() {
        messages(server.schema(kind).context("a schema")?, &mut rules);
    }
    assert!(rules.len() > 20);
    let mut said = fs::read_to_string(root().join("tests/lint/verdicts.txt"))?;
    said += "a ConsolidationPlan is a record: change only approved and approvedBy";
    let approved = object("good/plan-approved.yaml")?;
    for change in
        [json!({"approved": false}), json!({"approvedBy": "joe"}), json!({"steps": [approved["spec"]["steps"][0]]})]
    {
        said += &said_to_change(&server, &approved, change).join("\n");
    }
    let unbroken: Vec<_> = rules.iter().filter(|message| !said.contains(message.as_str())).collect();
    assert_eq!(unbroken, Vec::<&String>::new());
    Ok(())
}

#[test]
fn warnings_fail_only_when_strict() -> Result<()> {
    let file = root().join("e2e/fixtures/crs/good/policy-budget-of-nothing.yaml");
    let files = std::slice::from_ref(&file);
    let (verdict, text) = lint(files, false, Output::Table)?;
    assert_eq!((verdict, verdict.exit_code()), (Verdict::Clean, 0));
    assert!(text.contains("never moves anything"), "{text}");
    let (verdict, _) = lint(files, true, Output::Table)?;
    assert_eq!((verdict, verdict.exit_code()), (Verdict::Errors, 1));
    Ok(())
}

#[test]
fn json_and_yaml_say_the_same() -> Result<()> {
    let file = root().join("e2e/fixtures/crs/bad/policy-percent-above-100.yaml");
    let (_, json) = lint(std::slice::from_ref(&file), false, Output::Json)?;
    let (_, yaml) = lint(std::slice::from_ref(&file), false, Output::Yaml)?;
    let json: Value = serde_json::from_str(&json)?;
    assert_eq!(json, serde_yaml::from_str::<Value>(&yaml)?);
    assert_eq!(
        json["findings"][0],
        json!({
            "severity": "error",
            "file": "e2e/fixtures/crs/bad/policy-percent-above-100.yaml",
            "line": 8,
            "object": "ConsolidationPolicy/percent-above-100",
            "field": "spec.thresholds.overloadPercent",
            "problem": "Invalid value: 120: spec.thresholds.overloadPercent in body should be less than or equal to 100",
            "fix": null,
        })
    );
    assert_eq!(json["judged"], 1);
    Ok(())
}

#[test]
fn standard_input_and_lists_are_read() -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        object("good/policy-smallest.yaml")?, object("bad/policy-mode.yaml")?, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
    ]});
    let args = LintArgs { files: vec!["-".into()], ..LintArgs::default() };
    let mut out = Vec::new();
    let verdict = lint::run(&args, &mut list.to_string().as_bytes(), &mut out)?;
    let text = String::from_utf8(out)?;
    assert_eq!(verdict, Verdict::Errors);
    assert!(text.contains("-:1: error: ConsolidationPolicy/mode spec.mode: Unsupported value"), "{text}");
    assert!(text.contains("1 object not Miyako's, not judged: ConfigMap/c"), "{text}");
    Ok(())
}

#[test]
fn files_that_cannot_be_read_are_errors_that_name_them() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
        let path = directory.path().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    for (path, words) in [
        (directory.path().join("nowhere.yaml"), "cannot be read"),
        (file("binary.yaml", &[0xff, 0xfe, 0])?, "is not text in UTF-8"),
        (file("broken.yaml", b"a: [1,")?, "not YAML"),
        (file("scalar.yaml", b"hello")?, "is no object"),
        (file("no-kind.yaml", b"apiVersion: miyako.dev/v1alpha1")?, "kind not set"),
        (file("version.yaml", b"apiVersion: miyako.dev/v1\nkind: NodePower")?, "no matches for kind"),
        (
            file("kind.yaml", b"apiVersion: miyako.dev/v1alpha1\nkind: ConsolidationPolice")?,
            "write kind: ConsolidationPolicy",
        ),
    ] {
        let (verdict, text) = lint(std::slice::from_ref(&path), false, Output::Table)?;
        assert_eq!(verdict, Verdict::Errors, "{text}");
        assert!(text.contains(words) && text.contains(&path.display().to_string()), "{text}");
    }
    Ok(())
}

#[test]
fn a_megabyte_of_junk_is_refused_in_few_words() -> Result<()> {
    let server = ApiServer::new();
    let policy = |spec: String| {
        format!("apiVersion: miyako.dev/v1alpha1\nkind: ConsolidationPolicy\nmetadata: {{name: junk}}\nspec:\n{spec}")
    };
    let unknown: String = (0..60_000).map(|n| format!("  junk{n}: {{a: [1, 2]}}\n")).collect();
    let deep = format!("  nodeClasses: {}{}\n", "[".repeat(500_000), "]".repeat(500_000));
    for junk in [
        policy(format!("  nodeClasses: [{}]\n", "x_, ".repeat(250_000))),
        policy(format!("  nodeClasses: [a]\n{unknown}")),
        policy(format!("  nodeClasses: [a]\n  planTTL: {}\n", "1h".repeat(500_000))),
        policy(format!("  nodeClasses: [a]\n  stayWithin: [{}]\n", "\"é é\", ".repeat(100_000))),
        policy(format!(
            "  nodeClasses: [a]\n  virtualMachines: {{selector: {{matchLabels: {{{}}}}}}}\n",
            (0..60_000).map(|n| format!("l{n}: v, ")).collect::<String>()
        )),
        policy(deep),
        format!("apiVersion: miyako.dev/v1alpha1\nkind: {}\n", "K".repeat(1 << 20)),
        "{\"a\":".repeat(300_000),
        "\u{0}".repeat(1 << 20),
    ] {
        let mut input = Input::default();
        input.add("junk.yaml", &junk);
        let report = lint::judge(&server, &input);
        let mut out = Vec::new();
        report.print(Output::Table, &mut out)?;
        assert_eq!(report.verdict(false), Verdict::Errors, "{}", &junk[..100]);
        assert!(out.len() < 64 << 10, "{} bytes said about {}", out.len(), &junk[..100]);
    }
    Ok(())
}
