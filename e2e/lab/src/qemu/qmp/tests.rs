use super::*;
use tokio::io::Lines;
use tokio::net::UnixListener;

/// A QEMU that says what the test wants.
struct Fake {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Fake {
    async fn say(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    async fn heard(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    async fn accept(&mut self) -> Value {
        let command = self.heard().await;
        self.say(&json!({"return": {}, "id": command["id"]}).to_string()).await;
        command
    }
}

async fn pair() -> (Qmp, Fake) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("qmp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let fake = async {
        let (reader, writer) = listener.accept().await.unwrap().0.into_split();
        let mut fake = Fake { lines: BufReader::new(reader).lines(), writer };
        fake.say(r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}"#).await;
        assert_eq!(fake.accept().await["execute"], "qmp_capabilities");
        fake
    };
    let (qmp, fake) = tokio::join!(Qmp::connect(&socket), fake);
    (qmp.unwrap().unwrap(), fake)
}

#[tokio::test]
async fn answers_find_their_commands_in_any_order() {
    let (qmp, mut fake) = pair().await;
    assert_eq!(qmp.version(), Version { major: 7, minor: 2, micro: 22 });
    let play = async {
        let (first, second) = (fake.heard().await, fake.heard().await);
        fake.say("this is no JSON").await;
        fake.say(&json!({"return": 2, "id": second["id"]}).to_string()).await;
        fake.say(&json!({"error": {"desc": "no"}, "id": first["id"]}).to_string()).await;
    };
    let (refused, answered, ()) = tokio::join!(qmp.execute("a", json!({})), qmp.execute("b", json!({})), play);
    assert_eq!(refused, Err(QmpError::Refused { command: "a".to_owned(), reason: "no".to_owned() }));
    assert_eq!(answered, Ok(json!(2)));
}

#[tokio::test]
async fn a_qemu_that_dies_answers_everyone() {
    let (qmp, mut fake) = pair().await;
    let (mut events, other) = (qmp.events(), qmp.clone());
    let die = async move {
        fake.heard().await;
        fake.say(r#"{"event": "STOP"}"#).await;
        drop(fake);
    };
    let (answer, ()) = tokio::join!(qmp.execute("a", json!({})), die);
    assert_eq!(answer, Err(QmpError::Gone));
    assert_eq!(other.execute("b", json!({})).await, Err(QmpError::Gone));
    // What it said before is still heard, and by whoever comes later too.
    assert_eq!(events.next().await.map(|event| event.happening), Some(Happening::Stop));
    assert_eq!(events.next().await, None);
    assert_eq!(other.events().next().await.map(|event| event.happening), Some(Happening::Stop));
    assert_eq!(other.events_from_now().next().await, None);
}

#[tokio::test]
async fn a_frozen_qemu_is_not_waited_for_for_ever() {
    let (qmp, mut fake) = pair().await;
    tokio::time::pause();
    let answer = qmp.execute("query-status", json!({})).await;
    assert_eq!(answer, Err(QmpError::Silent { command: "query-status".to_owned(), within: ANSWER_WITHIN }));
    tokio::time::resume();
    // It thaws, and answers what nobody waits for any more; then it is as before.
    fake.accept().await;
    let (answer, command) = tokio::join!(qmp.execute("cont", json!({})), fake.accept());
    assert_eq!((answer, &command["execute"]), (Ok(json!({})), &json!("cont")));
}
