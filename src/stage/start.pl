# The last step before the program: looks whether the sandbox is what it should be, undoes what the way here needed, and becomes the program.
#
# perl start.pl STDERR REST
# STDERR  the descriptor that becomes the program's standard error; until now 2 was for what goes wrong on the way
# REST    the descriptor that the rest is read from, words with NUL behind each: `mount PATH ROOT`, `env NAME=VALUE`, `arg WORD`, and `end`.
#         None of them is among the arguments, which everybody can read, or in this program's environment, which perl would obey.
#
# `started` on 2 is the last word on the way. Ends as kz would when the program cannot be started: 127 where there is none, 126 where it cannot be
# executed.
use strict;
use warnings;

sub fail { print STDERR $_[0] =~ s/\n/ /gr, "\n"; exit 125 }

sub rest {
  my ($descriptor) = @_;
  open my $pipe, '<&=', $descriptor or fail "cannot read what to start: $!";
  my $text = do { local $/; <$pipe> } // '';
  close $pipe;
  return split /\0/, $text, -1;
}

# Mount point => what is mounted there, as a path of its file system (proc_pid_mountinfo(5)); the last one covers the others.
sub mounted {
  open my $file, '<', '/proc/self/mountinfo' or fail "cannot look at the mounts: $!";
  my %roots;
  while (<$file>) {
    my (undef, undef, undef, $root, $point) = map { s/\\([0-7]{3})/chr oct $1/ger } split / /;
    $roots{$point} = $root;
  }
  return \%roots;
}

my ($descriptor, $source) = @ARGV;
my @words = rest($source);
my (%environment, @command, $roots);
# Half of it would be another program, or a sandbox that nobody looked at.
fail 'kz is gone' unless @words >= 2 && $words[-2] eq 'end';
while (($_ = shift @words) ne 'end') {
  if ($_ eq 'mount') {
    my ($path, $root) = (shift @words, shift @words);
    $roots //= mounted();
    # Who puts a link in the place of a folder while all this is built would have it mounted elsewhere, or something else mounted here.
    fail "$path was exchanged while the sandbox was built" unless ($roots->{$path} // '') eq $root;
  } elsif ($_ eq 'env') {
    my ($name, $value) = split /=/, shift @words, 2;
    $environment{$name} = $value;
  } else {
    push @command, shift @words;
  }
}

# Ignored on the way, so that ^C reaches the program and not who waits for it. Before the next line: from then on kz sends them here.
$SIG{$_} = 'DEFAULT' for qw(HUP INT QUIT USR1 USR2 TERM);
print STDERR "started\n";
open STDERR, '>&', $descriptor or exit 125;
opendir my $folder, '/proc/self/fd' or exit 125;
for my $number (grep { /^\d+$/ && $_ > 2 } readdir $folder) {
  open(my $file, '<&=', $number) or next;
  close $file;
}
%ENV = %environment;
no warnings 'exec';
exec { $command[0] } @command;
# ENOENT, ENOTDIR.
my $status = $! == 2 || $! == 20 ? 127 : 126;
print STDERR "kz: error: cannot start $command[0] in the sandbox: \l$!\n";
exit $status;
