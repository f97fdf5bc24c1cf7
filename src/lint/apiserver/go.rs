//! Values as Go prints them.

use serde_json::{Number, Value};

/// A text as `%q` prints it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            '\u{7}' => quoted += "\\a",
            '\u{8}' => quoted += "\\b",
            '\u{b}' => quoted += "\\v",
            '\u{c}' => quoted += "\\f",
            c if c.is_control() && c.is_ascii() => quoted += &format!("\\x{:02x}", u32::from(c)),
            c if c.is_control() || is_unprintable(c) => {
                let code = u32::from(c);
                quoted += &if code > 0xffff { format!("\\U{code:08x}") } else { format!("\\u{code:04x}") };
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The unprintable characters one meets in practice: other spaces, invisible marks, private use.
fn is_unprintable(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{3000}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// A value as a field error prints it: simple ones with `%v`, texts with `%q`, others as JSON.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(value) => number(value),
        other => other.to_string(),
    }
}

/// A number as `%v` prints it.
pub(super) fn number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if is_float64(number) => self::float(float),
        _ => number.to_string(),
    }
}

/// Whether Go's JSON decoder makes this number a `float64`: it has a fraction or exponent, or no `int64` holds it.
pub(super) fn is_float64(number: &Number) -> bool {
    number.as_i64().is_none()
}

/// A `float64` as `%v` prints it: the shortest that reads the same, with an exponent from a million on.
pub(super) fn float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e6).contains(&size) {
        return format!("{value}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_go_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (1e5, "100000"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e20, "1e+20"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.5, "-0.5"),
            (123_456.7, "123456.7"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn texts_look_as_go_quotes_them() {
        assert_eq!(quoted("a\"b\\c\n\u{1}é\u{200b}"), r#""a\"b\\c\n\x01é\u200b""#);
    }
}
