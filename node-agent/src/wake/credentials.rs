//! User names and passwords that don't print.

use secrecy::{ExposeSecret as _, SecretString};
use std::{collections::BTreeMap, fmt};
use thiserror::Error;

/// A BMC's user name and password. Neither is ever shown: `Debug` is redacted, there is no `Display` and no
/// serialization, and the memory is wiped on drop.
#[derive(Clone)]
pub struct Credentials {
    username: SecretString,
    password: SecretString,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

/// Why a Secret or a credentials file can't be used. Never quotes a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// A key is missing.
    #[error("the key {0} is missing: write `username` and `password`")]
    Missing(&'static str),
    /// A value is empty.
    #[error("the value of {0} is empty")]
    Empty(&'static str),
    /// A value isn't text.
    #[error("the value of {0} is not UTF-8 text without control characters")]
    NotText(&'static str),
    /// A line of the file.
    #[error("line {0} is neither `username: …`, `password: …`, a comment nor empty")]
    Line(usize),
}

impl Credentials {
    /// Credentials from the two values.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: SecretString::from(username.into()), password: SecretString::from(password.into()) }
    }

    /// From a Secret's data, keys `username` and `password`. One line end after a value is dropped, because
    /// `kubectl create secret --from-file` keeps it.
    ///
    /// # Errors
    ///
    /// A missing, empty or unprintable value.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialsError> {
        let value = |key: &'static str| {
            let bytes = data.get(key).ok_or(CredentialsError::Missing(key))?;
            printable(key, bytes)
        };
        Ok(Self { username: value("username")?, password: value("password")? })
    }

    /// From the text of a credentials file: lines `username: NAME` and `password: WORD`, taken as they stand after one
    /// space, without quotes or escapes.
    ///
    /// # Errors
    ///
    /// Another line, or a missing, empty or unprintable value.
    pub fn parse_file(text: &str) -> Result<Self, CredentialsError> {
        let mut data = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key @ ("username" | "password"), value)) = line.split_once(':') else {
                return Err(CredentialsError::Line(index + 1));
            };
            data.insert(key.to_owned(), value.strip_prefix(' ').unwrap_or(value).as_bytes().to_vec());
        }
        Self::from_secret(&data)
    }

    /// The user name, for the wire only.
    #[must_use]
    pub fn username(&self) -> &str {
        self.username.expose_secret()
    }

    /// The password, for the wire only.
    #[must_use]
    pub fn password(&self) -> &str {
        self.password.expose_secret()
    }
}

fn printable(key: &'static str, bytes: &[u8]) -> Result<SecretString, CredentialsError> {
    let text = std::str::from_utf8(bytes).map_err(|_| CredentialsError::NotText(key))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(CredentialsError::Empty(key));
    }
    if text.chars().any(char::is_control) {
        return Err(CredentialsError::NotText(key));
    }
    Ok(SecretString::from(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_two_lines_and_its_errors_quote_no_value() {
        let credentials = Credentials::parse_file("# BMC\nusername: admin\n\npassword: a: b#c \n").unwrap();
        assert_eq!((credentials.username(), credentials.password()), ("admin", "a: b#c "));
        assert_eq!(format!("{credentials:?}"), "Credentials(redacted)");
        for (text, wanted) in [
            ("username: admin\n", CredentialsError::Missing("password")),
            ("username: admin\npassword: \n", CredentialsError::Empty("password")),
            ("username: admin\nhunter2\n", CredentialsError::Line(2)),
            ("username: a\u{7}\npassword: b", CredentialsError::NotText("username")),
        ] {
            let error = Credentials::parse_file(text).unwrap_err();
            assert_eq!(error, wanted);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn a_line_end_after_a_secrets_value_is_dropped() {
        let data = BTreeMap::from([
            ("username".to_owned(), b"admin\n".to_vec()),
            ("password".to_owned(), b" p \r\n".to_vec()),
        ]);
        let credentials = Credentials::from_secret(&data).unwrap();
        assert_eq!((credentials.username(), credentials.password()), ("admin", " p "));
    }
}
