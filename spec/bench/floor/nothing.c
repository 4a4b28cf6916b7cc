/*
 * The floor of S1: a program that does nothing. The harness links it with the libraries that the measured
 * dbrun needs, so it measures the dynamic linker's work: once with libpq, which dbrun opens when it connects,
 * and once without.
 */
int main(void)
{
    return 0;
}
