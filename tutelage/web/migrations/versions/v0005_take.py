"""On PostgreSQL the next item is taken by the server, so that nobody's claim waits for the answer to another's."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_TAKE = """
create function take_seat(
    in_account text, in_project text, secret text, lanes smallint[], passed bigint[], new_token text, at bigint,
    until bigint, version integer, turn_before bigint, today integer, so_far integer,
    out item bigint, out item_id text, out token text, out expires bigint, out shown text, out guideline integer,
    out given bigint, out given_today integer
) returns setof record language plpgsql rows 1 as $$
#variable_conflict use_column
declare
    in_lane smallint;
    place bigint;
    slots integer;
    last_revision integer;
begin
    given := turn_before;
    given_today := so_far;
    select s.item, i.id, s.token, s.expires, s.shown, s.guideline into item, item_id, token, expires, shown, guideline
        from seat s join item i on i.number = s.item
        where s.account = in_account and s.project = in_project and s.state = 'leased'
        order by s.turn desc limit 1;
    if found then
        return next;
        return;
    end if;
    foreach in_lane in array lanes loop
        select i.number, i.id, i.position, (select count(*) from item_response r where r.item = i.number),
                (select coalesce(max(j.revision), 0) from judgment j
                    where j.item = i.number and j.account = in_account)
            into item, item_id, place, slots, last_revision
            from item i
            where i.project = in_project and i.lane = in_lane and i.position > passed[in_lane + 1]
                and i.taken < i.need and i.state = 'open'
                and (select s.item from seat s where s.item = i.number and s.account = in_account) is null
            order by i.position limit 1;
        if found then
            shown := (
                select '[' || coalesce(string_agg(slot::text, ',' order by substr(sha256(convert_to(
                    secret || '/' || in_account || '/' || item_id || '/' || slot, 'UTF8')), 1, 6), slot), '') || ']'
                from generate_series(0, slots - 1) as slot
            );
            token := new_token;
            expires := until;
            guideline := version;
            given := turn_before + 1;
            given_today := so_far + 1;
            insert into seat (item, account, project, state, token, shown, guideline, granted, expires, turn, revision)
                values (item, in_account, in_project, 'leased', token, shown, version, at, until, given, last_revision);
            update membership m set given = m.given + 1, day = today, given_today = so_far + 1,
                passed_urgent = case when in_lane = 0 then place else passed[1] end,
                passed_ordinary = case when in_lane = 1 then place else passed[2] end,
                passed_gold = case when in_lane = 2 then place else passed[3] end
                where m.account = in_account and m.project = in_project;
            return next;
            return;
        end if;
    end loop;
end $$"""
_ARGUMENTS = "text, text, text, smallint[], bigint[], text, bigint, bigint, integer, bigint, integer, integer"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_TAKE)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"drop function take_seat({_ARGUMENTS})")
