//! Instant queries to Prometheus, each with exactly one value for an answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;

const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST: usize = 1 << 20;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Not reached, or the connection broke.
    #[error("Prometheus is not reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("Prometheus did not answer in {} s", PATIENCE.as_secs())]
    Slow,
    /// It refused the query.
    #[error("Prometheus refused the query: {0}")]
    Refused(String),
    /// More than one series: the query is not one for a rule.
    #[error("the query has {0} values, not one")]
    Ambiguous(usize),
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar((f64, String)),
}

#[derive(Deserialize)]
struct Series {
    value: (f64, String),
}

/// A Prometheus server.
#[derive(Clone, Debug)]
pub struct Prometheus {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Prometheus {
    /// The server at this address, such as `http://prometheus:9090`.
    pub fn new(base: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(PATIENCE / 2));
        Self {
            base: base.trim_end_matches('/').to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// The value of a query now; `None` if there is no data or it is not a number.
    pub async fn value(&self, query: &str) -> Result<Option<f64>, QueryError> {
        tokio::time::timeout(PATIENCE, self.ask(query))
            .await
            .map_err(|_| QueryError::Slow)?
    }

    async fn ask(&self, query: &str) -> Result<Option<f64>, QueryError> {
        let unreachable = |error: &dyn std::fmt::Display| QueryError::Unreachable(error.to_string());
        let address: Uri = format!("{}/api/v1/query", self.base)
            .parse()
            .map_err(|e| unreachable(&e))?;
        let form = serde_urlencoded::to_string([("query", query)]).map_err(|e| unreachable(&e))?;
        let request = Request::post(address)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))
            .map_err(|e| unreachable(&e))?;
        let answer = self.client.request(request).await.map_err(|e| unreachable(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST)
            .collect()
            .await
            .map_err(|e| unreachable(&e))?;
        read(&body.to_bytes()).map_err(|error| match error {
            QueryError::Refused(text) if !status.is_success() => QueryError::Refused(format!("{status}: {text}")),
            other => other,
        })
    }
}

fn read(body: &[u8]) -> Result<Option<f64>, QueryError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| QueryError::Refused(error.to_string()))?;
    let value = match answer.data {
        Some(Data::Vector(series)) if answer.status == "success" => match series.as_slice() {
            [] => return Ok(None),
            [one] => one.value.1.clone(),
            more => return Err(QueryError::Ambiguous(more.len())),
        },
        Some(Data::Scalar((_, value))) if answer.status == "success" => value,
        _ => return Err(QueryError::Refused(answer.error)),
    };
    Ok(value.parse::<f64>().ok().filter(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let vector = |result: &str| {
            read(format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{result}}}}}"#).as_bytes())
        };
        assert_eq!(vector(r#"[{"metric":{},"value":[1.5,"42.5"]}]"#).unwrap(), Some(42.5));
        assert_eq!(vector("[]").unwrap(), None);
        assert_eq!(vector(r#"[{"metric":{},"value":[1.5,"NaN"]}]"#).unwrap(), None);
        assert_eq!(vector(r#"[{"metric":{},"value":[1.5,"+Inf"]}]"#).unwrap(), None);
        let two = r#"[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"2"]}]"#;
        assert!(matches!(vector(two), Err(QueryError::Ambiguous(2))));
        let scalar = br#"{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}"#;
        assert_eq!(read(scalar).unwrap(), Some(7.0));
        let refused = br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert!(matches!(read(refused), Err(QueryError::Refused(text)) if text == "parse error"));
        assert!(matches!(read(b"<html>"), Err(QueryError::Refused(_))));
    }
}
