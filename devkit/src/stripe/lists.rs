//! Lists: newest first, paged by object ids, filtered as Stripe filters them.

use serde_json::{Value, json};

use super::{
    API_VERSION,
    calls::Call,
    error::Failure,
    form::Params,
    model::Delivery,
    state::{State, Table},
};

/// Which part of a list is asked for.
struct Page {
    limit: usize,
    starting_after: Option<String>,
    ending_before: Option<String>,
    created: Created,
}

/// Bounds on the time of creation.
#[derive(Default)]
struct Created {
    exactly: Option<i64>,
    gt: Option<i64>,
    gte: Option<i64>,
    lt: Option<i64>,
    lte: Option<i64>,
}

impl Created {
    fn read(params: &mut Params) -> Result<Self, Failure> {
        if let Ok(exactly) = params.clone().integer("created") {
            params.ignore(&["created"]);
            return Ok(Self {
                exactly,
                ..Self::default()
            });
        }
        let Some(mut bounds) = params.object("created")? else {
            return Ok(Self::default());
        };
        let created = Self {
            exactly: None,
            gt: bounds.integer("gt")?,
            gte: bounds.integer("gte")?,
            lt: bounds.integer("lt")?,
            lte: bounds.integer("lte")?,
        };
        bounds.finish()?;
        Ok(created)
    }

    fn holds(&self, at: i64) -> bool {
        self.exactly.is_none_or(|bound| at == bound)
            && self.gt.is_none_or(|bound| at > bound)
            && self.gte.is_none_or(|bound| at >= bound)
            && self.lt.is_none_or(|bound| at < bound)
            && self.lte.is_none_or(|bound| at <= bound)
    }
}

impl Page {
    fn read(call: &mut Call) -> Result<Self, Failure> {
        let limit = call.params.integer("limit")?.unwrap_or(10);
        let fits = usize::try_from(limit).ok().filter(|limit| (1..=100).contains(limit));
        let Some(limit) = fits else {
            let message = "Invalid limit: must be between 1 and 100.".to_owned();
            return Err(Failure::invalid("limit", message).with_code("parameter_invalid_integer"));
        };
        let starting_after = call.params.text("starting_after")?;
        let ending_before = call.params.text("ending_before")?;
        let created = Created::read(&mut call.params)?;
        call.done()?;
        Ok(Self {
            limit,
            starting_after,
            ending_before,
            created,
        })
    }

    /// Cuts the page out of `rows` (id, time, object), newest first.
    fn cut<'a>(&self, rows: impl Iterator<Item = (&'a str, i64, Value)>, url: &str) -> Result<Value, Failure> {
        let rows: Vec<(&str, i64, Value)> = rows.filter(|(_, at, _)| self.created.holds(*at)).collect();
        let place = |name: &str, id: &str| {
            let found = rows.iter().position(|(row, _, _)| *row == id);
            found.ok_or_else(|| Failure::no_such_param(name, "object", id))
        };
        let (from, to) = match (&self.starting_after, &self.ending_before) {
            (Some(id), _) => {
                let from = place("starting_after", id)? + 1;
                (from, rows.len().min(from + self.limit))
            }
            (None, Some(id)) => {
                let to = place("ending_before", id)?;
                (to.saturating_sub(self.limit), to)
            }
            (None, None) => (0, rows.len().min(self.limit)),
        };
        let more = if self.ending_before.is_some() {
            from > 0
        } else {
            to < rows.len()
        };
        let data: Vec<&Value> = rows
            .iter()
            .skip(from)
            .take(to - from)
            .map(|(_, _, object)| object)
            .collect();
        Ok(json!({"object": "list", "data": data, "has_more": more, "url": url}))
    }
}

/// `GET /v1/payment_intents`
pub(super) fn intents(state: &State, call: &mut Call) -> Result<Value, Failure> {
    call.params.ignore(&["customer"]);
    let page = Page::read(call)?;
    let rows = newest(&state.intents).map(|row| (row.id.as_str(), row.created, row.render()));
    page.cut(rows, "/v1/payment_intents")
}

/// `GET /v1/charges`
pub(super) fn charges(state: &State, call: &mut Call) -> Result<Value, Failure> {
    let intent = call.params.text("payment_intent")?;
    let page = Page::read(call)?;
    let rows = newest(&state.charges)
        .filter(|row| intent.as_ref().is_none_or(|wanted| row.payment_intent == *wanted))
        .map(|row| (row.id.as_str(), row.created, row.render()));
    page.cut(rows, "/v1/charges")
}

/// `GET /v1/refunds`
pub(super) fn refunds(state: &State, call: &mut Call) -> Result<Value, Failure> {
    let charge = call.params.text("charge")?;
    let intent = call.params.text("payment_intent")?;
    let page = Page::read(call)?;
    let rows = newest(&state.refunds)
        .filter(|row| charge.as_ref().is_none_or(|wanted| row.charge == *wanted))
        .filter(|row| intent.as_ref().is_none_or(|wanted| row.payment_intent == *wanted))
        .map(|row| (row.id.as_str(), row.created, row.render()));
    page.cut(rows, "/v1/refunds")
}

/// `GET /v1/charges/:id/refunds`
pub(super) fn refunds_of_charge(state: &State, call: &mut Call, id: &str) -> Result<Value, Failure> {
    if state.charges.get(id).is_none() {
        return Err(Failure::no_such("charge", id));
    }
    let page = Page::read(call)?;
    let rows = newest(&state.refunds)
        .filter(|row| row.charge == id)
        .map(|row| (row.id.as_str(), row.created, row.render()));
    page.cut(rows, &format!("/v1/charges/{id}/refunds"))
}

/// `GET /v1/events`: `delivery_success=false` lists what is still being tried or was lost.
pub(super) fn events(state: &State, call: &mut Call) -> Result<Value, Failure> {
    let success = call.params.flag("delivery_success")?;
    let kind = call.params.text("type")?;
    let kinds = call.params.list("types")?;
    if kind.is_some() && !kinds.is_empty() {
        let message = "You may only specify one of these parameters: type, types.".to_owned();
        return Err(Failure::invalid("types", message));
    }
    let page = Page::read(call)?;
    let matches = |name: &str, pattern: &str| {
        pattern
            .strip_suffix('*')
            .map_or_else(|| name == pattern, |start| name.starts_with(start))
    };
    let rows = newest(&state.events)
        .filter(|row| success.is_none_or(|wanted| wanted == (row.delivery == Delivery::Delivered)))
        .filter(|row| kind.as_ref().is_none_or(|pattern| matches(&row.kind, pattern)))
        .filter(|row| kinds.is_empty() || kinds.iter().any(|pattern| matches(&row.kind, pattern)))
        .map(|row| (row.id.as_str(), row.created, row.render(API_VERSION)));
    page.cut(rows, "/v1/events")
}

/// `GET /v1/balance_transactions`
pub(super) fn transactions(state: &State, call: &mut Call) -> Result<Value, Failure> {
    let kind = call.params.text("type")?;
    let source = call.params.text("source")?;
    let currency = call.params.text("currency")?.map(|code| code.to_ascii_lowercase());
    let page = Page::read(call)?;
    let now = state.now();
    let rows = newest(&state.transactions)
        .filter(|row| kind.as_ref().is_none_or(|wanted| row.kind == *wanted))
        .filter(|row| source.as_ref().is_none_or(|wanted| row.source == *wanted))
        .filter(|row| currency.as_ref().is_none_or(|wanted| row.currency == *wanted))
        .map(|row| (row.id.as_str(), row.created, row.render(now)));
    page.cut(rows, "/v1/balance_transactions")
}

fn newest<T>(table: &Table<T>) -> impl Iterator<Item = &T> {
    table.all().rev()
}
