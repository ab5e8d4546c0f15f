//! Queries to a real Prometheus.

use autoscaler::prometheus::{Prometheus, QueryError};

use crate::support::{Scraped, policy};

#[tokio::test]
async fn a_real_prometheus_answers() {
    let Some(mut scraped) = Scraped::start("a{x=\"1\"} 40\na{x=\"2\"} 2\n").await else {
        return;
    };
    let prometheus = Prometheus::new(&format!("{}/", scraped.url));
    scraped.until("sum(a)", 42.0).await;
    assert_eq!(prometheus.value("sum(a)").await.unwrap(), Some(42.0));
    assert_eq!(prometheus.value("scalar(sum(a))").await.unwrap(), Some(42.0));
    assert_eq!(prometheus.value("sum(nothing)").await.unwrap(), None);
    assert_eq!(prometheus.value("sum(a) / 0 * 0").await.unwrap(), None);
    assert!(matches!(prometheus.value("a").await, Err(QueryError::Ambiguous(2))));
    assert!(matches!(prometheus.value("sum(a").await, Err(QueryError::Refused(text)) if text.contains("parse error")));

    // what is shipped is understood by it, whether there is data or not
    let policy = policy();
    for service in policy.services.values() {
        for rule in &service.rules {
            prometheus.value(&rule.query).await.unwrap();
        }
    }
    for guard in &policy.guards {
        prometheus.value(&guard.query).await.unwrap();
    }

    scraped.stop();
    assert!(matches!(
        prometheus.value("sum(a)").await,
        Err(QueryError::Unreachable(_))
    ));
}
