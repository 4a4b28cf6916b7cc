-- migrate:up
create view latest_observations as
select s.id as series_id, o.observed_at, o.value, o.quality
  from series s
 cross join lateral (select observed_at, value, quality
                       from observations
                      where series_id = s.id
                      order by observed_at desc
                      limit 1) o;

comment on view latest_observations is 'The newest value of each series that has one.';

-- migrate:down
drop view latest_observations;
