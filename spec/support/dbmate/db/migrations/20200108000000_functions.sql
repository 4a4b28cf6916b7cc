-- migrate:up
create function touch() returns trigger language plpgsql as $$
begin
  new.created := now(); -- a semicolon; and a 'quote'
  return new;
end;
$$;
create trigger touch before update on posts for each row execute function touch();
create function twice(n int) returns int language sql begin atomic select n * 2; end;
create procedure tidy() language sql as 'delete from posts where body is null; delete from posts where false';
-- migrate:down
drop procedure tidy;
drop function twice;
drop trigger touch on posts;
drop function touch;
