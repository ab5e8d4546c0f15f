-- What travellers did is deleted after two years. contract: core §14 (retention)

create index history_age on users.history (created_at);
