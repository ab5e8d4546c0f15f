-- Figures of a period ($2 to $3) and of the equal one before it ($1 to $2). Revenue is what was taken less what was given back.
select
    users.total as "users!",
    users.verified as "verified!",
    users.fresh as "new_users!",
    users.fresh_before as "new_users_before!",
    bookings.by_status as "bookings_by_status!",
    bookings_before.total as "bookings_before!",
    bookings_before.won as "won_before!",
    searches.now as "searches!",
    searches.before as "searches_before!",
    revenue.by_currency as "revenue!",
    revenue_before.euro as "revenue_before!"
from
    (
        select
            count(*) as total,
            count(*) filter (where is_verified) as verified,
            count(*) filter (where created_at >= $2 and created_at < $3) as fresh,
            count(*) filter (where created_at >= $1 and created_at < $2) as fresh_before
        from auth.accounts
    ) as users
cross join (
    select coalesce(jsonb_object_agg(status, number), '{}') as by_status
    from (
        select status, count(*) as number
        from voyage.booking_data
        where created_at >= $2 and created_at < $3
        group by status
    ) as counted
) as bookings
cross join (
    select count(*) as total, count(*) filter (where status in ('CONFIRMED', 'COMPLETED')) as won
    from voyage.booking_data
    where created_at >= $1 and created_at < $2
) as bookings_before
cross join (
    select
        count(*) filter (where searched_at >= $2) as now,
        count(*) filter (where searched_at < $2) as before
    from voyage.search_data
    where searched_at >= $1 and searched_at < $3
) as searches
cross join (
    select coalesce(jsonb_object_agg(currency, minor), '{}') as by_currency
    from (
        select currency, sum(captured_minor - refunded_minor)::bigint as minor
        from payment.transaction_data
        where created_at >= $2 and created_at < $3 and status in ('SUCCEEDED', 'REFUNDED')
        group by currency
    ) as counted
) as revenue
cross join (
    select coalesce(sum(captured_minor - refunded_minor), 0)::bigint as euro
    from payment.transaction_data
    where created_at >= $1 and created_at < $2 and status in ('SUCCEEDED', 'REFUNDED') and currency = 'EUR'
) as revenue_before
