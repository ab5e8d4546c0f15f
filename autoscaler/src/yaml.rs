//! The part of YAML that a policy is written in: block maps and lists, one-line flow maps and lists, quoted and plain
//! values, comments. Anything else (anchors, tags, several documents, text blocks, tabs) is refused with its line.
//! No YAML library is in the workspace, and a policy does not need one.

use serde_json::{Map, Number, Value};

const DEEPEST: usize = 16;

/// What is wrong, and on which line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct YamlError {
    /// Counted from one.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

fn refuse<T>(line: usize, what: impl Into<String>) -> Result<T, YamlError> {
    Err(YamlError {
        line,
        what: what.into(),
    })
}

#[derive(Clone, Debug)]
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

/// Reads a document.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let number = index + 1;
        let bare = without_comment(raw).trim_end();
        if bare.trim().is_empty() {
            continue;
        }
        let text = bare.trim_start_matches(' ');
        if text.starts_with('\t') {
            return refuse(number, "indent with spaces, not with tabs");
        }
        if text.starts_with("---") || text.starts_with("...") || text.starts_with('%') {
            return refuse(number, "only one plain document is understood");
        }
        lines.push(Line {
            number,
            indent: bare.len() - text.len(),
            text: text.to_owned(),
        });
    }
    let Some(first) = lines.first() else {
        return Ok(Value::Null);
    };
    let indent = first.indent;
    let mut blocks = Blocks { lines, at: 0 };
    let value = blocks.block(indent, 0)?;
    match blocks.peek() {
        None => Ok(value),
        Some(line) => refuse(line.number, "does not belong to what stands above it"),
    }
}

/// The line up to a `#` that starts it or follows a space, outside of quotes.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '#' && before.is_whitespace() => return line.get(..at).unwrap_or(line),
            None if matches!(c, '\'' | '"') && matches!(before, ' ' | '{' | '[' | ',' | ':') => quote = Some(c),
            _ => {}
        }
        before = c;
    }
    line
}

struct Blocks {
    lines: Vec<Line>,
    at: usize,
}

impl Blocks {
    fn peek(&self) -> Option<&Line> {
        self.lines.get(self.at)
    }

    fn block(&mut self, indent: usize, depth: usize) -> Result<Value, YamlError> {
        let Some(line) = self.peek().cloned() else {
            return Ok(Value::Null);
        };
        if depth > DEEPEST {
            return refuse(line.number, "nested too deeply");
        }
        if line.text == "-" || line.text.starts_with("- ") {
            self.list(indent, depth)
        } else if split_key(&line.text).is_some() {
            self.map(indent, depth)
        } else {
            self.at += 1;
            whole(&line.text, line.number)
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        while let Some(line) = self.peek().cloned() {
            if line.indent != indent {
                break;
            }
            let Some(rest) = line.text.strip_prefix('-') else {
                break;
            };
            let text = rest.trim_start_matches(' ');
            if text.is_empty() {
                self.at += 1;
                items.push(self.below(indent, depth)?);
            } else if text.len() == rest.len() {
                return refuse(line.number, "a list item is `- value`");
            } else {
                // what follows the dash is a block of its own, as far in as it stands
                let inner = indent + line.text.len() - text.len();
                if let Some(own) = self.lines.get_mut(self.at) {
                    own.indent = inner;
                    text.clone_into(&mut own.text);
                }
                items.push(self.block(inner, depth + 1)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Value, YamlError> {
        let mut map = Map::new();
        while let Some(line) = self.peek().cloned() {
            if line.indent != indent {
                break;
            }
            let Some((key, rest)) = split_key(&line.text) else {
                return refuse(line.number, "expected `key: value`");
            };
            let Value::String(key) = key_of(key, line.number)? else {
                return refuse(line.number, "a key is text");
            };
            self.at += 1;
            let value = if rest.is_empty() {
                self.below(indent, depth)?
            } else {
                whole(rest, line.number)?
            };
            if map.insert(key.clone(), value).is_some() {
                return refuse(line.number, format!("`{key}` stands there twice"));
            }
        }
        if let Some(line) = self.peek()
            && line.indent > indent
        {
            return refuse(line.number, "indented further than what it belongs to");
        }
        Ok(Value::Object(map))
    }

    /// What stands further in than `indent`, or nothing.
    fn below(&mut self, indent: usize, depth: usize) -> Result<Value, YamlError> {
        match self.peek().map(|line| (line.indent, line.text.starts_with('-'))) {
            Some((inner, _)) if inner > indent => self.block(inner, depth + 1),
            Some((inner, true)) if inner == indent => self.list(indent, depth + 1),
            _ => Ok(Value::Null),
        }
    }
}

/// `key: rest` or `key:`, the colon outside of quotes and brackets.
fn split_key(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['{', '[']) {
        return None;
    }
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if at == 0 && matches!(c, '\'' | '"') => quote = Some(c),
            None if c == ':' => {
                let rest = text.get(at + 1..)?;
                if rest.is_empty() || rest.starts_with(' ') {
                    return Some((text.get(..at)?, rest.trim()));
                }
            }
            _ => {}
        }
    }
    None
}

fn key_of(text: &str, line: usize) -> Result<Value, YamlError> {
    if text.starts_with(['\'', '"']) {
        whole(text, line)
    } else {
        Ok(Value::String(text.to_owned()))
    }
}

/// A value that fills the rest of its line.
fn whole(text: &str, line: usize) -> Result<Value, YamlError> {
    let mut flow = Flow {
        rest: text,
        line,
        inside: false,
    };
    let value = flow.value(0)?;
    if flow.rest.trim().is_empty() {
        Ok(value)
    } else {
        refuse(line, format!("cannot read `{}`", flow.rest.trim()))
    }
}

struct Flow<'a> {
    rest: &'a str,
    line: usize,
    inside: bool,
}

impl Flow<'_> {
    fn eat(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, YamlError> {
        if depth > DEEPEST {
            return refuse(self.line, "nested too deeply");
        }
        let outside = self.inside;
        if self.eat('{') {
            self.inside = true;
            let mut map = Map::new();
            while !self.eat('}') {
                let Value::String(key) = self.scalar(true)? else {
                    return refuse(self.line, "a key is text");
                };
                if !self.eat(':') {
                    return refuse(self.line, format!("expected `:` after `{key}`"));
                }
                let value = self.value(depth + 1)?;
                if map.insert(key.clone(), value).is_some() {
                    return refuse(self.line, format!("`{key}` stands there twice"));
                }
                self.comma('}')?;
            }
            self.inside = outside;
            Ok(Value::Object(map))
        } else if self.eat('[') {
            self.inside = true;
            let mut list = Vec::new();
            while !self.eat(']') {
                list.push(self.value(depth + 1)?);
                self.comma(']')?;
            }
            self.inside = outside;
            Ok(Value::Array(list))
        } else {
            self.scalar(false)
        }
    }

    fn comma(&mut self, end: char) -> Result<(), YamlError> {
        if self.eat(',') || self.rest.trim_start().starts_with(end) {
            Ok(())
        } else {
            refuse(self.line, format!("expected `,` or `{end}`"))
        }
    }

    fn scalar(&mut self, key: bool) -> Result<Value, YamlError> {
        if self.eat('\'') {
            return self.quoted('\'');
        }
        if self.eat('"') {
            return self.quoted('"');
        }
        let mut end = self.rest.len();
        for (at, c) in self.rest.char_indices() {
            if self.inside && matches!(c, ',' | '{' | '}' | '[' | ']') || key && c == ':' {
                end = at;
                break;
            }
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        let text = text.trim();
        if text.is_empty() {
            return refuse(self.line, "a value is missing");
        }
        if text.starts_with(['&', '*', '!', '|', '>', '%', '@', '`', '?']) {
            return refuse(self.line, format!("`{text}`: put it into quotes"));
        }
        if text.contains(": ") || text.ends_with(':') {
            return refuse(self.line, format!("`{text}` has a colon: put it into quotes"));
        }
        Ok(if key {
            Value::String(text.to_owned())
        } else {
            plain(text)
        })
    }

    fn quoted(&mut self, quote: char) -> Result<Value, YamlError> {
        let (mut text, rest) = (String::new(), self.rest);
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            let next = rest.get(at + c.len_utf8()..).unwrap_or_default();
            if c == quote && quote == '\'' && next.starts_with('\'') {
                text.push('\'');
                chars.next();
            } else if c == quote {
                self.rest = next;
                return Ok(Value::String(text));
            } else if c == '\\' && quote == '"' {
                match chars.next() {
                    Some((_, c @ ('"' | '\\' | '/'))) => text.push(c),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    _ => return refuse(self.line, "this escape is not understood"),
                }
            } else {
                text.push(c);
            }
        }
        refuse(self.line, "a quote is not closed")
    }
}

fn plain(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" | "~" => Value::Null,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.')) => text
            .parse::<i64>()
            .map(Number::from)
            .ok()
            .or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
            .map_or_else(|| Value::String(text.to_owned()), Value::Number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_policy_is_written_in() {
        let text = "# head\na: 1 # one\nb:\n  - {x: 'it''s, {so}', y: [1, 2.5, true]}\n  - k: v\n    l: \"q\\\"#\"\nc:\n- sum(up)\n\
                    d: rate(a[2m])\ne:\n\"f g\": ~\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "a": 1, "b": [{"x": "it's, {so}", "y": [1, 2.5, true]}, {"k": "v", "l": "q\"#"}], "c": ["sum(up)"],
                "d": "rate(a[2m])", "e": null, "f g": null
            })
        );
        assert_eq!(parse("\n# nothing\n").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (text, line) in [
            ("a: &x 1", 1),
            ("a: 1\na: 2", 2),
            ("a: 1\n  b: 2", 2),
            ("a:\n\tb: 2", 2),
            ("---\na: 1", 1),
            ("a: 'open", 1),
            ("a: {b: 1", 1),
            ("a: {b: 1} c", 1),
            ("a: |\n  text", 1),
            ("a: b: c", 1),
            ("a:\n    b: 1\n  c: 2", 3),
            ("a: 1\nplain", 2),
            ("a: [1 {]", 1),
        ] {
            assert_eq!(parse(text).map_err(|e| e.line), Err(line), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_stop_or_panic(text in "[-a-z0-9 :,'\"{}\\[\\]#\n\\\\]{0,120}") {
            let _ = parse(&text);
        }
    }
}
