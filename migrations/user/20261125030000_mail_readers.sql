-- What the mail service may know of a traveller: the language and the time zone to write in. contract: core §9

create view users.mail_readers as
select user_id, language, timezone
from users.settings;

do $$
begin
    if exists (select from pg_roles where rolname = 'mail_service') then
        grant usage on schema users to mail_service;
        grant select on users.mail_readers to mail_service;
    end if;
end
$$;
