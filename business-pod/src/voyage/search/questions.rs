//! Searches by the text that asked for them: what a text means never changes while the process runs, so reading it, looking
//! its places up and digesting it is done once for each spelling.

use std::sync::Arc;

use moka::sync::Cache;
use shared::ApiError;

use super::params::{Asked, Search};

/// The most memory that remembered texts take, in bytes.
const MEMORY: u64 = 4 << 20;
/// What an entry takes beside its text, in bytes.
const ENTRY: usize = 512;
/// Longer texts are read each time.
const LONGEST: usize = 1_024;

/// A valid search and its digest.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub search: Search,
    /// What stands for it in the cache of answers.
    pub key: [u8; 16],
}

/// The questions of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct Questions(Cache<Arc<str>, Arc<Question>>);

impl Questions {
    /// None yet.
    pub fn new() -> Self {
        let weight = |text: &Arc<str>, _: &Arc<Question>| u32::try_from(text.len() + ENTRY).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(MEMORY).weigher(weight).build())
    }

    /// What a query string asks for. Texts that are refused are not remembered.
    pub async fn read(&self, query: Option<&str>) -> Result<Arc<Question>, ApiError> {
        let text = query.unwrap_or_default();
        if let Some(question) = self.0.get(text) {
            return Ok(question);
        }
        let search = Asked::parse(query)?.resolve().await?;
        let key = search.key();
        let question = Arc::new(Question { search, key });
        if text.len() <= LONGEST {
            self.0.insert(text.into(), Arc::clone(&question));
        }
        Ok(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "origin=CDG&destination=JFK&departureDate=2027-06-15";

    #[tokio::test]
    async fn a_text_is_read_once_and_spellings_share_their_digest() {
        let questions = Questions::new();
        let first = questions.read(Some(ROUTE)).await.unwrap();
        let again = questions.read(Some(ROUTE)).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = questions.read(Some(&format!("{ROUTE}&adults=1"))).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(first.key, other.key);
    }

    #[tokio::test]
    async fn what_is_refused_or_long_is_read_each_time() {
        let questions = Questions::new();
        for _ in 0..2 {
            assert_eq!(questions.read(Some("origin=CDG")).await.unwrap_err().status(), 400);
            assert_eq!(questions.read(None).await.unwrap_err().status(), 400);
        }
        let long = format!("{ROUTE}&x={}", "y".repeat(LONGEST));
        let (first, again) = (questions.read(Some(&long)).await, questions.read(Some(&long)).await);
        assert!(!Arc::ptr_eq(&first.unwrap(), &again.unwrap()));
    }
}
