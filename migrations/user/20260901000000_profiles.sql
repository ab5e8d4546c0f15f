-- Settings, profiles and notifications. contract: core §5.1, §5.8, §11
--
-- Accounts belong to the auth service, so `user_id` has no foreign key; rows are made and erased by events.

create table users.settings (
    user_id uuid primary key,
    language text, -- null until chosen: shown as English, messages are then written in French (core §7)
    currency char(3) not null default 'USD',
    timezone text not null default 'UTC',
    deal_alerts boolean not null default true,
    trip_reminders boolean not null default true,
    price_alerts boolean not null default true,
    newsletter boolean not null default false,
    profile_visibility text not null default 'public',
    data_sharing boolean not null default false,
    marketing boolean not null default true,
    preferred_destinations text[] not null default '{}',
    accommodation_type text[] not null default '{}',
    activities text[] not null default '{}',
    dietary text[] not null default '{}',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint settings_profile_visibility_check check (profile_visibility in ('public', 'private'))
);

create table users.profiles (
    user_id uuid primary key,
    avatar text,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table users.notifications (
    id uuid primary key,
    user_id uuid not null,
    type text not null default 'SYSTEM',
    title text not null,
    message text not null,
    metadata jsonb,
    read_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint notifications_type_check check (type in (
        'BOOKING_CONFIRMED', 'BOOKING_CANCELLED', 'PAYMENT_RECEIVED', 'PAYMENT_FAILED', 'REFUND_PROCESSED',
        'PROMO_OFFER', 'PLATFORM_UPDATE', 'ACCOUNT_SECURITY', 'PRICE_ALERT', 'TRIP_REMINDER', 'SYSTEM'
    ))
);

create index notifications_newest on users.notifications (user_id, created_at desc, id desc);
create index notifications_unread on users.notifications (user_id, created_at desc, id desc) where read_at is null;
