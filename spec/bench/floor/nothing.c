/*
 * The floor of S1: a program that does nothing. The harness links it with the libraries that the
 * measured dbrun needs, and with libpq, which dbrun opens when it connects. So what remains is the dynamic
 * linker's work for all that a program with both databases links.
 */
int main(void)
{
    return 0;
}
