# Opens the sandbox's doors: sockets that listen inside of the network namespace, passed to kz, who accepts from outside. Then the way is
# kz's and nobody's here: this program becomes the next one. Runs as root of a namespace that has nothing but loopback; perl-base is enough.
# docs/decisions/0026-doors.md says why perl, and what happens where there is none (doors.ts).
#
# perl doors.pl HOW DOOR... -- PROGRAM ARG...
# HOW   `any` to make every IPv4 address lead here, `lo` for loopback only
# DOOR  tcp:ADDRESS:PORT, udp:ADDRESS:PORT; port 0 is any
#       args:N is none: the next program will read its arguments from descriptor N, and starts when they are complete
#
# It speaks Node's IPC protocol on descriptor NODE_CHANNEL_FD: one JSON line for each socket, with the socket itself (SCM_RIGHTS).
use strict;
use warnings;

my ($AF_INET, $AF_NETLINK, $STREAM, $DGRAM, $RAW, $NONBLOCK) = (2, 16, 1, 2, 3, 0x800);
my ($SOL_SOCKET, $SCM_RIGHTS) = (1, 1);

sub machine {
  open my $file, '<', '/proc/sys/kernel/arch' or return `uname -m` =~ s/\s+//r;
  return <$file> =~ s/\s+//r;
}

# The system calls that perl has no function for.
my %NUMBERS = (
  x86_64 => {mount => 165, sendmsg => 46, memfd_create => 319},
  aarch64 => {mount => 40, sendmsg => 211, memfd_create => 279},
);

sub fail { print STDERR "kz: cannot open the doors of the sandbox: $_[0]: $!\n"; exit 1 }

# What is mounted outside from now on stays outside: it would be there in the sandbox too, writable and behind no mask.
sub keep_mounts_apart {
  my ($mount) = @_;
  my ($root, $MS_REC_PRIVATE) = ("/\0", 0x44000);
  syscall($mount, 0, $root, 0, $MS_REC_PRIVATE, 0) == 0 or fail 'mounts';
}

# `ip route add local 0.0.0.0/0 dev lo`, by rtnetlink(7).
sub every_address_leads_here {
  socket my $netlink, $AF_NETLINK, $RAW, 0 or fail 'netlink';
  my ($RTM_NEWROUTE, $REQUEST_ACK_CREATE, $LOOPBACK) = (24, 0x405, 1);
  my ($TABLE_LOCAL, $PROTO_STATIC, $SCOPE_HOST, $TYPE_LOCAL, $ATTRIBUTE_DEVICE) = (255, 4, 254, 2, 4);
  my $route = pack('C8 L', $AF_INET, 0, 0, 0, $TABLE_LOCAL, $PROTO_STATIC, $SCOPE_HOST, $TYPE_LOCAL, 0);
  my $device = pack('S S L', 8, $ATTRIBUTE_DEVICE, $LOOPBACK);
  my $length = 16 + length($route) + length($device);
  my $request = pack('L S S L L', $length, $RTM_NEWROUTE, $REQUEST_ACK_CREATE, 1, 0) . $route . $device;
  defined send $netlink, $request, 0, pack('S S L L', $AF_NETLINK, 0, 0, 0) or fail 'route';
  defined recv $netlink, my $answer, 4096, 0 or fail 'route';
  # nlmsgerr: a negative errno, 0 for done.
  my $errno = -unpack('l', substr $answer, 16, 4);
  if ($errno != 0) { $! = $errno; fail 'route' }
}

# A program without capabilities may then listen on 80 and 443 too, as kz's doors here do.
sub every_port_is_free {
  open my $file, '>', '/proc/sys/net/ipv4/ip_unprivileged_port_start' or return;
  print $file '0';
}

sub open_door {
  my ($kind, $address, $port) = @_;
  my $isTcp = $kind eq 'tcp';
  # Not blocking: kz would wait for ever in accept(2) once it has no descriptors left.
  socket my $socket, $AF_INET, ($isTcp ? $STREAM : $DGRAM) | $NONBLOCK, 0 or fail 'socket';
  my $name = pack('S n C4 x8', $AF_INET, $port, split /\./, $address);
  bind $socket, $name or fail "$kind:$address:$port";
  if ($isTcp) { listen $socket, 4096 or fail 'listen' }
  return $socket;
}

# struct msghdr with one iovec and one cmsghdr, as 64-bit machines lay them out.
sub pass {
  my ($channel, $number, $line, $socket) = @_;
  my $vector = pack('P Q', $line, length $line);
  my $control = pack('Q i i i x4', 20, $SOL_SOCKET, $SCM_RIGHTS, fileno $socket);
  my $message = pack('Q L x4 P Q P Q i x4', 0, 0, $vector, 1, $control, length $control, 0);
  syscall($number, $channel, $message, 0) == length $line or fail 'pass';
}

# Reads the arguments of the next program to their end and puts them where it will read them. Half of them would be half of a sandbox: when kz
# is gone before the last word, this is the end.
sub complete_arguments {
  my ($descriptor, $memfd_create) = @_;
  open my $pipe, '<&=', $descriptor or fail 'arguments';
  my $text = do { local $/; <$pipe> } // '';
  close $pipe;
  $text =~ s/(?<=\0)end\0\z// or exit 1;
  # The lowest that is free, which is the one that was closed just now. Not closed by exec.
  my $name = "arguments\0";
  my $file = syscall($memfd_create, $name, 0);
  if ($file != $descriptor) { $! = 9; fail 'arguments' }
  $^F = $file;
  open my $memory, '+<&=', $file or fail 'arguments';
  defined syswrite $memory, $text or fail 'arguments';
  sysseek $memory, 0, 0 or fail 'arguments';
  return $memory;
}

my $numbers = $NUMBERS{machine()};
if (!defined $numbers || length(pack 'P', '') != 8) { $! = 38; fail 'this machine' }

my $how = shift @ARGV;
if ($how eq 'any') { keep_mounts_apart($numbers->{mount}); every_port_is_free(); every_address_leads_here() }
my (@doors, $arguments, $held);
while (@ARGV && (my $word = shift @ARGV) ne '--') {
  if ($word =~ /^args:(\d+)$/) { $arguments = 0 + $1 } else { push @doors, $word }
}
if (@doors) {
  # A number, not text: syscall() takes text for the address of it.
  my $channel = 0 + delete $ENV{NODE_CHANNEL_FD};
  delete $ENV{NODE_CHANNEL_SERIALIZATION_MODE};
  for my $door (@doors) {
    my ($kind, $address, $port) = split /:/, $door;
    my $socket = open_door($kind, $address, $port);
    my $type = $kind eq 'tcp' ? '"net.Server"' : '"dgram.Socket","dgramType":"udp4"';
    pass($channel, $numbers->{sendmsg}, qq({"cmd":"NODE_HANDLE","type":$type,"msg":{"door":"$door"}}\n), $socket);
  }
  open my $answers, '+<&=', $channel or fail 'channel';
  # Node answers each with a line. What it has not read when this end is closed would be lost.
  readline $answers or fail 'answer' for @doors;
  # Closed later: the lowest descriptor that is free must be the one for the arguments.
  $held = $answers;
}
my $memory = complete_arguments($arguments, $numbers->{memfd_create}) if defined $arguments;
close $held if defined $held;
exec { $ARGV[0] } @ARGV or fail "exec $ARGV[0]";
