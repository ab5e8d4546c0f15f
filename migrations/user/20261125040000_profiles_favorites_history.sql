-- The rest of the profile, favourites, history, and objects on their way out. contract: core §5.1-5.4, §5.6, §5.7, §11
--
-- Only additions, each with a default: the previous release runs on this schema as well.

alter table users.settings
    add column travel_style text,
    -- null until its owner decides: then mail and push are on, text messages off
    add column channel_email boolean,
    add column channel_push boolean,
    add column channel_sms boolean;

alter table users.profiles
    add column id uuid not null default gen_random_uuid() constraint profiles_id_key unique,
    add column first_name text not null default '',
    add column last_name text not null default '',
    add column phone text,
    add column date_of_birth date,
    add column preferences jsonb,
    add column bio text,
    add column location text,
    add column website text;

create table users.favorites (
    id uuid primary key,
    user_id uuid not null,
    entity_type text not null,
    entity_id text not null,
    entity_data jsonb,
    category text,
    notes text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint favorites_item_key unique (user_id, entity_type, entity_id),
    constraint favorites_entity_type_check check (
        entity_type in ('FLIGHT', 'HOTEL', 'ACTIVITY', 'DESTINATION', 'BOOKING')
    )
);

create index favorites_newest on users.favorites (user_id, created_at desc, id desc);
create index favorites_newest_of_type on users.favorites (user_id, entity_type, created_at desc, id desc);

create table users.history (
    id uuid primary key,
    user_id uuid not null,
    action_type text not null,
    entity_type text not null,
    entity_id text not null,
    metadata jsonb,
    created_at timestamptz not null,
    constraint history_action_type_check check (
        action_type in ('CREATED', 'VIEWED', 'UPDATED', 'DELETED', 'SEARCHED', 'FAVORITED', 'UNFAVORITED')
    ),
    constraint history_entity_type_check check (
        entity_type in ('booking', 'search', 'favorite', 'destination', 'hotel', 'activity', 'flight')
    )
);

create index history_newest on users.history (user_id, created_at desc, id desc);
create index history_newest_of_type on users.history (user_id, entity_type, created_at desc, id desc);
create index history_of_entity on users.history (entity_type, entity_id);

-- Objects to be removed from object storage once `due_at` is past. An upload is entered before it is stored and taken off
-- in the transaction that refers to it, so whatever stops in between leaves nothing behind; what is replaced is entered in
-- the transaction that replaces it.
create table users.doomed_objects (
    key text primary key,
    due_at timestamptz not null
);

create index doomed_objects_due on users.doomed_objects (due_at);
