--- argparse, the parser of command lines (dbrun.cli). The binary carries the one it was built with under this name, so
--- that it neither looks for another one nor compiles it; this file stands in for it everywhere else.
return require "argparse"
