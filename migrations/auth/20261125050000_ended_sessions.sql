-- Which of these sessions are over, for the replicas that hold sockets open: one question for all of them.
-- contract: core §2.3, §2.5, §5.10
--
-- A function and not a view: the user service learns nothing about sessions that it does not know already.

create function auth.ended_sessions(sessions uuid[], at timestamptz) returns setof uuid
language sql
stable
security definer
set search_path = ''
as $$
    select given.id
    from unnest(sessions) as given (id)
    where not exists (
        select
        from auth.sessions as session
        join auth.users as account on account.id = session.user_id
        where session.id = given.id
            and session.revoked_at is null
            and session.expires_at > at
            and session.absolute_expires_at > at
            and account.deleted_at is null
            and account.suspended_at is null
    )
$$;

revoke all on function auth.ended_sessions (uuid[], timestamptz) from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'user_service') then
        grant execute on function auth.ended_sessions (uuid[], timestamptz) to user_service;
    end if;
end
$$;
