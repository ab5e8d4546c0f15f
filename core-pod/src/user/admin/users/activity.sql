-- The newest hundred of each source in one order. The total comes with every row, and alone where the page is empty.
with merged as (
    (
        select 'history-' || id as id, 'history' as kind, action_type || ' ' || entity_type as label, entity_id as detail,
            null::text as status, null::bigint as minor, null::text as currency, created_at
        from users.history
        where user_id = $1
        order by created_at desc
        limit 100
    )
    union all
    (
        select 'booking-' || id, 'booking', 'Booking ' || reference, type || coalesce(' to ' || destination, ''),
            status, total_minor, currency, created_at
        from voyage.booking_data
        where user_id = $1
        order by created_at desc
        limit 100
    )
    union all
    (
        select 'payment-' || id, 'payment', 'Payment for ' || booking_reference, payment_intent_id,
            status, amount_minor, currency, created_at
        from payment.transaction_data
        where user_id = $1
        order by created_at desc
        limit 100
    )
)
select
    counted.total as "total!",
    page.id as "id?",
    page.kind as "kind?",
    page.label as "label?",
    page.detail as "detail?",
    page.status as "status?",
    page.minor as "minor?",
    page.currency as "currency?",
    page.created_at as "created_at?"
from (select count(*) as total from merged) as counted
left join lateral (
    select * from merged order by created_at desc, id desc limit $2 offset $3
) as page on true
