//! Typed configuration from environment variables and secret files. No other code reads the environment.
//!
//! contract: core §12. A [`Reader`] collects every problem instead of stopping at the first, so that an operator sees all
//! of them at once; the process then exits with 78 (`EX_CONFIG`).

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    str::FromStr,
};

use secrecy::{ExposeSecret as _, SecretString};

/// Where the process runs. Decides whether anything may fall back to embedded defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A laptop: what is unset is embedded.
    Development,
    /// Nothing falls back; missing settings stop the start.
    Production,
}

/// One setting, as documented and as found. `config` prints these.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// What it is for, its unit and shape.
    pub help: &'static str,
    /// The default as text, if there is one.
    pub default: Option<String>,
    /// Whether the value is masked and may come from `<NAME>_FILE`.
    pub secret: bool,
    /// The effective value, masked for secrets.
    pub effective: Option<String>,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| writeln!(f, "  - {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Reads settings by name and remembers what was asked, what was found and what was wrong.
#[derive(Debug)]
pub struct Reader {
    vars: BTreeMap<String, String>,
    settings: Vec<Setting>,
    problems: Vec<String>,
    environment: Environment,
}

impl Reader {
    /// The process environment.
    pub fn from_env() -> Self {
        Self::from_pairs(std::env::vars())
    }

    /// Given pairs, for tests and for the launcher.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let vars: BTreeMap<_, _> = pairs
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .collect();
        let mut reader = Self {
            vars,
            settings: Vec::new(),
            problems: Vec::new(),
            environment: Environment::Development,
        };
        let text = reader
            .text("APP_ENV", "`development` or `production`; `NODE_ENV` is an alias")
            .or_else(|| reader.vars.get("NODE_ENV").cloned());
        reader.environment = match text.as_deref() {
            None | Some("development" | "test") => Environment::Development,
            Some("production") => Environment::Production,
            Some(other) => {
                reader.problem(format!("APP_ENV: `{other}` is neither `development` nor `production`"));
                Environment::Production
            }
        };
        reader
    }

    /// Where the process runs.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// Whether this is production.
    pub fn production(&self) -> bool {
        self.environment == Environment::Production
    }

    /// Whether a variable (or its `_FILE` form) is set, without reading it.
    pub fn is_set(&self, name: &str) -> bool {
        self.vars.contains_key(name) || self.vars.contains_key(&format!("{name}_FILE"))
    }

    /// The bare text of a variable, for tools that document nothing.
    pub fn text_now(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    /// Fills in a variable that is not set, for the embedded back ends.
    pub fn fill(&mut self, name: &str, value: impl Into<String>) {
        if !self.is_set(name) {
            self.vars.insert(name.to_owned(), value.into());
        }
    }

    /// Records a problem found by a check across fields.
    pub fn problem(&mut self, text: impl Into<String>) {
        let text = text.into();
        // several services may miss the same setting
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// An optional text.
    pub fn text(&mut self, name: &'static str, help: &'static str) -> Option<String> {
        let value = self.vars.get(name).cloned();
        self.note(name, help, None, false, value.clone());
        value
    }

    /// An optional value of a type.
    pub fn optional<T: FromStr>(&mut self, name: &'static str, help: &'static str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.vars.get(name).cloned();
        self.note(name, help, None, false, text.clone());
        self.parse(name, &text?)
    }

    /// A value with a default.
    pub fn or<T: FromStr + ToString>(&mut self, name: &'static str, default: T, help: &'static str) -> T
    where
        T::Err: fmt::Display,
    {
        let text = self.vars.get(name).cloned();
        let default_text = default.to_string();
        self.note(
            name,
            help,
            Some(default_text.clone()),
            false,
            Some(text.clone().unwrap_or(default_text)),
        );
        text.and_then(|text| self.parse(name, &text)).unwrap_or(default)
    }

    /// A comma list with a default; blanks around items are dropped.
    pub fn list(&mut self, name: &'static str, default: &[&str], help: &'static str) -> Vec<String> {
        let text = self.vars.get(name).cloned().unwrap_or_else(|| default.join(","));
        self.note(name, help, Some(default.join(",")), false, Some(text.clone()));
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// A value that must be there (unless this is development and `fill` gave one).
    pub fn required<T: FromStr>(&mut self, name: &'static str, help: &'static str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        if !self.is_set(name) {
            self.problem(format!("{name} is missing: {help}"));
        }
        self.optional(name, help)
    }

    /// A secret from `NAME` or from the file named by `NAME_FILE`; both set is an error.
    pub fn secret(&mut self, name: &'static str, help: &'static str) -> Option<SecretString> {
        let file_name = format!("{name}_FILE");
        let (direct, file) = (self.vars.get(name).cloned(), self.vars.get(&file_name).cloned());
        let value = match (direct, file) {
            (Some(_), Some(_)) => {
                self.problem(format!("{name} and {file_name} are both set: keep one"));
                None
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) if text.trim().is_empty() => {
                    self.problem(format!("{file_name}: the file is empty"));
                    None
                }
                Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => {
                    self.problem(format!("{file_name}: cannot be read: {}", error.kind()));
                    None
                }
            },
            (None, None) => None,
        };
        self.note(name, help, None, true, value.as_ref().map(|_| "***".to_owned()));
        value.map(SecretString::from)
    }

    /// A secret that must be there and must not be a placeholder in production.
    pub fn required_secret(&mut self, name: &'static str, help: &'static str) -> Option<SecretString> {
        let set = self.is_set(name);
        let value = self.secret(name, help);
        if !set {
            self.problem(format!("{name} (or {name}_FILE) is missing: {help}"));
        }
        if self.production()
            && value
                .as_ref()
                .is_some_and(|value| is_placeholder(value.expose_secret()))
        {
            self.problem(format!("{name} is a placeholder"));
        }
        value
    }

    /// What was asked so far, in order, without repetitions.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The settings with their effective values, one a line, as a file of variables with remarks.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        for Setting {
            name,
            help,
            default,
            secret,
            effective,
        } in &self.settings
        {
            let secret = if *secret { ", secret, also as a file" } else { "" };
            let default = default
                .as_deref()
                .map_or_else(|| "no default".to_owned(), |default| format!("default `{default}`"));
            let value = effective
                .as_ref()
                .map_or_else(|| format!("# {name}="), |value| format!("{name}={value}"));
            let _ = writeln!(text, "# {help} ({default}{secret})\n{value}");
        }
        text
    }

    /// All problems, or nothing.
    pub fn finish(&mut self) -> Result<(), ConfigErrors> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(std::mem::take(&mut self.problems)))
        }
    }

    fn parse<T: FromStr>(&mut self, name: &str, text: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        match text.trim().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(format!("{name}: {error}"));
                None
            }
        }
    }

    fn note(
        &mut self,
        name: &'static str,
        help: &'static str,
        default: Option<String>,
        secret: bool,
        found: Option<String>,
    ) {
        if !self.settings.iter().any(|setting| setting.name == name) {
            self.settings.push(Setting {
                name,
                help,
                default,
                secret,
                effective: found,
            });
        }
    }
}

/// The reference of all settings as a Markdown table, sorted by name: what was read in development and in production.
pub fn reference(development: &Reader, production: &Reader) -> String {
    let find = |reader: &Reader, name| reader.settings.iter().find(|setting| setting.name == name).cloned();
    let both = development.settings.iter().chain(&production.settings);
    let settings: BTreeMap<_, _> = both.rev().map(|setting| (setting.name, setting)).collect();
    let mut text = "| Variable | Meaning | Default |\n|---|---|---|\n".to_owned();
    for (name, Setting { help, secret, .. }) in settings {
        let file = if *secret {
            format!(" or `{name}_FILE`")
        } else {
            String::new()
        };
        let default_in = |reader| find(reader, name).map(|setting| shown(setting.default.as_deref()));
        let default = match (default_in(development), default_in(production)) {
            (Some(here), Some(there)) if here == there => here,
            (Some(here), Some(there)) => format!("{here}; in production {there}"),
            (Some(here), None) => format!("{here}; in development only"),
            (None, there) => format!("{}; in production only", there.unwrap_or_default()),
        };
        let _ = writeln!(text, "| `{name}`{file} | {} | {default} |", escape(help));
    }
    text
}

fn shown(default: Option<&str>) -> String {
    let default = default.filter(|default| !default.is_empty());
    default.map_or_else(|| "–".to_owned(), |default| format!("`{}`", escape(default)))
}

/// A pipe would end the cell of a table.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

/// `changeme`, `your_key_here`, `<secret>` and their like.
fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["change", "placeholder", "your_", "your-", "example", "xxx", "<", "todo"]
        .iter()
        .any(|mark| value.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[(&str, &str)]) -> Reader {
        Reader::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn problems(reader: &mut Reader) -> Vec<String> {
        reader.finish().err().map(|errors| errors.0).unwrap_or_default()
    }

    #[test]
    fn a_secret_may_come_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret \n").unwrap();
        let mut reader = reader(&[("API_KEY_FILE", file.path().to_str().unwrap())]);
        let value = reader.required_secret("API_KEY", "a key").unwrap();
        assert_eq!(value.expose_secret(), "s3cret ");
        assert!(problems(&mut reader).is_empty());
    }

    #[test]
    fn a_secret_given_twice_is_refused() {
        let mut reader = reader(&[("API_KEY", "a"), ("API_KEY_FILE", "/nowhere")]);
        assert!(reader.secret("API_KEY", "a key").is_none());
        assert!(problems(&mut reader)[0].contains("both set"));
    }

    #[test]
    fn an_unreadable_or_empty_file_is_a_problem_that_does_not_tell_secrets() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let mut reader = reader(&[
            ("A_FILE", "/nowhere/at/all"),
            ("B_FILE", empty.path().to_str().unwrap()),
        ]);
        reader.secret("A", "a");
        reader.secret("B", "b");
        let found = problems(&mut reader);
        assert!(
            found[0].contains("A_FILE: cannot be read") && found[1].contains("B_FILE: the file is empty"),
            "{found:?}"
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut reader = reader(&[("APP_ENV", "production"), ("PORT", "many"), ("RATIO", "x")]);
        reader.or("PORT", 1_u16, "port");
        reader.optional::<f64>("RATIO", "ratio");
        reader.required::<u16>("MISSING", "a number");
        reader.required_secret("KEY", "a key");
        let errors = reader.finish().unwrap_err();
        assert_eq!(errors.0.len(), 4, "{errors}");
        assert!(
            errors.to_string().contains("4 problem(s)") && errors.to_string().contains("KEY (or KEY_FILE) is missing")
        );
    }

    #[test]
    fn placeholders_are_refused_in_production_only() {
        for value in ["changeme", "your_key_here", "<secret>", "CHANGE-ME-123"] {
            let mut development = reader(&[("KEY", value)]);
            assert!(development.required_secret("KEY", "a key").is_some());
            assert!(problems(&mut development).is_empty());
            let mut production = reader(&[("NODE_ENV", "production"), ("KEY", value)]);
            production.required_secret("KEY", "a key");
            assert_eq!(problems(&mut production), ["KEY is a placeholder"], "{value}");
        }
    }

    #[test]
    fn node_env_is_an_alias_and_nonsense_is_safe() {
        assert!(reader(&[("NODE_ENV", "production")]).production());
        assert!(!reader(&[("NODE_ENV", "production"), ("APP_ENV", "development")]).production());
        let mut nonsense = reader(&[("APP_ENV", "prod")]);
        assert!(nonsense.production() && problems(&mut nonsense)[0].contains("`prod`"));
    }

    #[test]
    fn an_empty_value_is_none_and_a_filled_one_does_not_win() {
        let mut reader = reader(&[("A", " "), ("B", "mine")]);
        reader.fill("A", "embedded");
        reader.fill("B", "embedded");
        assert_eq!(reader.text("A", "a").as_deref(), Some("embedded"));
        assert_eq!(reader.text("B", "b").as_deref(), Some("mine"));
    }

    #[test]
    fn what_is_printed_masks_secrets_and_the_reference_has_no_values() {
        let mut mine = reader(&[("KEY", "hunter2"), ("PORT", "81")]);
        mine.secret("KEY", "a key");
        mine.or("PORT", 80_u16, "a|b");
        mine.or("SAME", 1, "same");
        let effective = mine.effective();
        assert!(effective.contains("KEY=***") && effective.contains("PORT=81") && !effective.contains("hunter2"));
        let mut production = reader(&[("APP_ENV", "production")]);
        production.or("PORT", 90_u16, "a|b");
        production.or("SAME", 1, "same");
        production.or("METRICS_PORT", 9090, "metrics");
        let reference = reference(&mine, &production);
        for line in [
            "| `KEY` or `KEY_FILE` | a key | –; in development only |",
            "| `PORT` | a\\|b | `80`; in production `90` |",
            "| `SAME` | same | `1` |",
            "| `METRICS_PORT` | metrics | `9090`; in production only |",
        ] {
            assert!(reference.contains(line), "{line} is missing in\n{reference}");
        }
        assert!(!reference.contains("81"), "{reference}");
    }

    #[test]
    fn the_same_problem_is_told_once() {
        let mut reader = reader(&[]);
        reader.required::<u16>("PORT", "a port");
        reader.required::<u16>("PORT", "a port");
        assert_eq!(problems(&mut reader).len(), 1);
    }
}
