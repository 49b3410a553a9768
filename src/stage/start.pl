# The last step before the program: undoes what the way here needed, and becomes the program.
#
# perl start.pl STDERR PROGRAM ARG...
# STDERR  the descriptor that becomes the program's standard error; until now 2 was for what went wrong on the way
#
# Ends as kz would when the program cannot be started: 127 where there is none, 126 where it cannot be executed.
use strict;
use warnings;

my $descriptor = shift @ARGV;
open STDERR, '>&', $descriptor or exit 125;
# Ignored on the way, so that ^C reaches the program and not who waits for it.
$SIG{$_} = 'DEFAULT' for qw(HUP INT QUIT USR1 USR2 TERM);
opendir my $folder, '/proc/self/fd' or exit 125;
for my $number (grep { /^\d+$/ && $_ > 2 } readdir $folder) {
  open(my $file, '<&=', $number) or next;
  close $file;
}
no warnings 'exec';
exec { $ARGV[0] } @ARGV;
# ENOENT, ENOTDIR.
my $status = $! == 2 || $! == 20 ? 127 : 126;
print STDERR "kz: error: cannot start $ARGV[0] in the sandbox: \l$!\n";
exit $status;
