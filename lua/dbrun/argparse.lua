--- argparse, the parser of command lines for dbrun.command_line. The binary embeds the real module under this name;
--- this file is used without the binary and requires the installed one.
return require "argparse"
