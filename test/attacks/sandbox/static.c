/* A program without libraries or variables that ask for a proxy: static HOST PORT TEXT sends the text and prints the answer. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct timeval patience = {2, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) { perror("connect"); return 1; }
  if (write(fd, argv[3], strlen(argv[3])) < 0) { perror("write"); return 1; }
  char answer[200];
  ssize_t got = read(fd, answer, sizeof answer - 1);
  if (got <= 0) { perror("read"); return 1; }
  return write(1, answer, (size_t)got) < 0;
}
